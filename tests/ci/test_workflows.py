"""The workflows and forms under .github: they do not run here, so what they name is held to what there is."""

import re
import tomllib

import yaml

from tests.docker.dockerfile import PROJECT

GITHUB = PROJECT / ".github"
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())


def workflow(name):
    # YAML 1.1 takes the key `on` for true.
    return yaml.safe_load((GITHUB / "workflows" / name).read_text())


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_a_push_runs_what_ci_runs_with_each_python():
    jobs = workflow("ci.yml")["jobs"]
    assert commands(jobs["linux"]) == [".ci/run"]
    assert (PROJECT / ".ci/run").stat().st_mode & 0o100
    versions = jobs["linux"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert PYPROJECT["project"]["requires-python"] == f">={versions[0]}"
    assert commands(jobs["macos"]) == ['make test ARGS="--ignore=tests/docker"']


def test_the_lowest_versions_are_tested_with_the_lowest_python():
    """The others have no wheels of them."""
    script = (PROJECT / ".ci/run").read_text()
    lowest = re.search(r"version_info\[:2\] != \((\d+), (\d+)\).*\n.*\n  make test-lowest\n", script)
    assert PYPROJECT["project"]["requires-python"] == f">={lowest[1]}.{lowest[2]}"


def test_a_release_s_packages_and_image_are_checked_and_not_published():
    jobs = workflow("release.yml")["jobs"]
    packages, image = ("\n".join(commands(jobs[name])) for name in ("packages", "image"))
    assert "python -m build" in packages
    handler = re.search(r"invoke ([\w/]+\.py):(\w+)", packages)
    assert f"def {handler[2]}(" in (PROJECT / handler[1]).read_text()
    assert "docker build" in image
    assert "HEALTHCHECK" in (PROJECT / "Dockerfile").read_text()
    assert "upload " not in packages + image
    assert "push" not in packages + image


def test_the_form_for_bugs_asks_for_what_doctor_says():
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE/bug.yml").read_text())
    labels = [part["attributes"]["label"] for part in form["body"]]
    assert "Output of `runpod-emulator doctor --json`" in labels


def test_one_place_names_the_home_of_the_project():
    pages = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), PROJECT / "action.yml"]
    named = {page.name for page in pages if "your-org" in page.read_text()}
    assert not named
    assert "## Where it is published" in (PROJECT / "CONTRIBUTING.md").read_text()


def test_type_checkers_read_the_package_s_types():
    assert (PROJECT / "emulator/py.typed").exists()
