"""Which files are a project's: those whose change matters to workers that are started from it."""

import pytest

from emulator import EndpointConfig
from emulator.workers.project import project_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "handler.py").write_text("")
    return tmp_path


def held(config, folder, names):
    project = project_of(config)
    return [name for name in names if project.holds(folder / name)]


def test_of_a_commands_folder_every_source_file_is(folder):
    config = EndpointConfig(command="sh start.sh", worker_kind="process")
    sources = ["start.sh", "src/handler.py", "a/b/worker.mjs", "config.YAML", "settings.json", "app.ts"]
    others = [
        "weights.bin", "notes.txt", "../other.py", ".git/hook.py", ".venv/lib/x.py", "venv/x.py", "x.py~",
        "node_modules/a/index.js", "src/__pycache__/x.py", "src/.#handler.py", "src/flycheck_handler.py",
    ]  # fmt: skip
    assert held(config, folder, sources + others) == sources


def test_of_a_handlers_folder_the_python_files_are(folder):
    names = ["src/handler.py", "src/parts/a.py", "src/data.json", "root.py"]
    config = EndpointConfig(handler="src/handler.py", worker_kind="process")
    assert held(config, folder, names) == ["src/handler.py", "src/parts/a.py"]
    config = EndpointConfig(handler="src.handler:run", worker_kind="process")
    assert held(config, folder, names) == ["src/handler.py", "src/parts/a.py", "root.py"]
    config = EndpointConfig(handler="handler.py", workdir="src", worker_kind="process")
    assert held(config, folder, names) == ["src/handler.py", "src/parts/a.py"]


def test_a_folder_behind_a_link_is_watched_where_it_is(folder):
    (folder / "link").symlink_to("src")
    config = EndpointConfig(command=("sh", "x.sh"), workdir="link", worker_kind="process")
    assert project_of(config).folder == folder / "src"


def test_what_is_not_in_a_file_has_none():
    assert project_of(EndpointConfig(handler=lambda job: 1)) is None
    assert project_of(EndpointConfig()) is None
