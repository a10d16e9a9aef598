"""What a worker takes of a node, where workers are placed on a cluster; with Ray's names for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.errors import ConfigError

#: More than any node has.
_MOST = 100_000.0
#: What Ray has another setting for.
_NOT_CUSTOM = {"CPU": "num_cpus", "GPU": "num_gpus"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What each of an endpoint's workers takes of the node that it is placed on.

    :raises ConfigError: an amount, or a name, is none that a node could have.
    """

    #: CPUs, for the scheduler to count: a worker is not held to them.
    num_cpus: float = 1.0
    #: GPUs; a worker sees those that it was given.
    num_gpus: float = 0.0
    #: Custom resources of nodes, by name.
    resources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("num_cpus", self.num_cpus)
        _check("num_gpus", self.num_gpus)
        for name, amount in self.resources.items():
            if not name.strip():
                raise ConfigError("resources: a resource has no name")
            if (setting := _NOT_CUSTOM.get(name)) is not None:
                raise ConfigError(f"resources: {name} is no custom resource: say it by {setting}")
            _check(f"resources: {name}", amount)

    def __str__(self) -> str:
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus, **self.resources}
        return ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount) or "nothing"


def _check(name: str, amount: float) -> None:
    # Neither is NaN between them.
    if not 0 <= amount <= _MOST:
        raise ConfigError(f"{name} is {amount:g}: it must be from 0 to {_MOST:g}")
    if amount > 1 and name != "num_cpus" and amount != int(amount):
        raise ConfigError(f"{name} is {amount:g}: above 1 it must be a whole number")
