"""What a Docker engine is asked for, by the options of `--image`."""

import pytest

from emulator.core.container import ContainerSettings
from emulator.workers.containers.spec import container_spec


def asked_for(**settings):
    """What the engine is asked for, with these settings."""
    return container_spec(
        ContainerSettings(**settings),
        image_id="sha256:1",
        command=(),
        hostname="w1",
        variables={"A": "1"},
        labels={"of": "test"},
    )


@pytest.mark.parametrize(
    ("gpus", "wish"),
    [
        ("all", {"Count": -1}),
        ("2", {"Count": 2}),
        ("device=0,GPU-3a23", {"DeviceIDs": ["0", "GPU-3a23"]}),
    ],
)
def test_gpus_are_asked_for_as_docker_run_asks(gpus, wish):
    assert asked_for(gpus=gpus)["HostConfig"]["DeviceRequests"] == [
        {"Driver": "", "Capabilities": [["gpu"]], **wish}
    ]


def test_without_settings_nothing_is_asked_for_but_the_container():
    assert asked_for() == {
        "Image": "sha256:1",
        "Hostname": "w1",
        "Env": ["A=1"],
        "Labels": {"of": "test"},
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
            "Binds": [],
            "ExtraHosts": ["host.docker.internal:host-gateway"],
        },
    }


def test_limits_are_exact_and_the_swap_gives_no_more():
    host = asked_for(memory="1g", cpus=1.5, shm_size="64m", network="host")["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (2**30, 2**30)
    assert (host["NanoCpus"], host["ShmSize"]) == (1_500_000_000, 64 * 2**20)
    assert host["NetworkMode"] == "host"
    assert "ExtraHosts" not in host
