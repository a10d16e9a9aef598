"""docs/scale.md: its manifests are YAML, and give workers the variables that the compose file gives them."""

import re

import yaml

from tests.docker.compose import EXTERNAL, variables
from tests.docs.pages import text_of

BLOCKS = re.findall(r"^```yaml\n(.*?)^```", text_of("docs/scale.md"), re.DOTALL | re.MULTILINE)
MANIFESTS = [manifest for block in BLOCKS for manifest in yaml.safe_load_all(block)]


def environment(name):
    """What a Deployment's container is given, as far as it is written there."""
    (found,) = [
        each for each in MANIFESTS if (each["kind"], each["metadata"]["name"]) == ("Deployment", name)
    ]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value") for each in container["env"]}


def test_the_workers_are_those_of_the_compose_file():
    given = environment("worker")
    composed = variables(EXTERNAL["services"]["worker"])
    for name in composed.keys() & given.keys() - {"RUNPOD_AI_API_KEY"}:
        assert given[name] == str(composed[name]), name
    assert {name for name in composed if "WEBHOOK" in name} <= given.keys()
    assert "RUNPOD_POD_ID" in given


def test_what_is_scaled_and_asked_for_is_there():
    names = {(each["kind"], each["metadata"]["name"]) for each in MANIFESTS}
    (scaled,) = [each for each in MANIFESTS if each["kind"] == "ScaledObject"]
    assert ("Deployment", scaled["spec"]["scaleTargetRef"]["name"]) in names
    (trigger,) = scaled["spec"]["triggers"]
    assert ("TriggerAuthentication", trigger["authenticationRef"]["name"]) in names
    assert trigger["metadata"]["valueLocation"] == "jobs.inQueue"
