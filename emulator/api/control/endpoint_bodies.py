"""What the control API says and takes of endpoints, their settings and their stubs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, JsonValue

from emulator.api.control.bodies import ControlForm
from emulator.api.wire import EndpointHealth
from emulator.core.config import WorkerKind
from emulator.core.policy import TTL_DEFAULT_MS
from emulator.core.request import MissingInput
from emulator.core.scaling import ScalerType


class EndpointSettings(ControlForm):
    """What an endpoint is to be; what is not given has production's default (docs/settings.md)."""

    #: `module:function`, `path.py:function`, `path.py`; null answers by stubs.
    handler: str | None = None
    #: An image whose containers are the workers, in place of a handler.
    image: str | None = None
    worker_kind: WorkerKind = WorkerKind.INLINE
    workers_min: int = 0
    workers_max: int = 3
    idle_timeout_s: float = 5.0
    execution_timeout_ms: int = 600_000
    ttl_ms: int = TTL_DEFAULT_MS
    scaler_type: ScalerType = ScalerType.QUEUE_DELAY
    scaler_value: int = 4
    cold_start_ms: int = 0
    #: Null is production's: 10 for /run, 20 for /runsync.
    result_limit_mib: int | None = None
    #: What becomes of a request without an input.
    missing_input: MissingInput = MissingInput.REFUSE
    flashboot: bool = False
    #: What process workers run in place of a handler: a text, or its words.
    command: str | list[str] = Field(default_factory=list)
    #: The folder workers run in; null is the emulator's own.
    workdir: str | None = None
    python: str | None = None
    worker_env: dict[str, str] = Field(default_factory=dict)
    worker_args: list[str] = Field(default_factory=list)
    #: A time of its own (`real`, `frozen`, `auto`, `scaled:N`); null shares the emulator's.
    clock: str | None = None


class LiveSettings(ControlForm):
    """What can be changed while an endpoint runs; what is not given stays."""

    workers_min: Annotated[int, Field(strict=True)] | None = None
    workers_max: Annotated[int, Field(strict=True)] | None = None
    idle_timeout_s: float | None = None
    execution_timeout_ms: Annotated[int, Field(strict=True)] | None = None
    scaler_type: ScalerType | None = None
    scaler_value: Annotated[int, Field(strict=True)] | None = None


class OfferedInput(ControlForm):
    """A job that a file beside the handler describes."""

    name: str
    file: str
    input: JsonValue


class OfferedInputs(ControlForm):
    """The inputs of the files `test_input.json` and `.runpod/tests.json`."""

    inputs: list[OfferedInput]


class EndpointView(ControlForm):
    """An endpoint."""

    id: str
    url: str
    handler: str
    worker_kind: WorkerKind
    workers_min: int
    workers_max: int
    idle_timeout_s: float
    execution_timeout_ms: int
    scaler_type: ScalerType
    scaler_value: int
    clock: str
    own_clock: bool
    #: Why no worker starts, in a sentence; null when one can, as far as is known.
    obstacle: str | None
    health: EndpointHealth


class EndpointsView(ControlForm):
    """All endpoints; the first also answers at the root."""

    endpoints: list[EndpointView]


class StubView(ControlForm):
    """A stub, and how often it was matched."""

    id: int
    when: dict[str, Any]
    #: What a job then does: `returns`, `fails` or `says`, `chunks`, `progress`, `delay_ms`.
    then: dict[str, Any]
    times: int | None
    matched: int


class StubChange(ControlForm):
    """What can be changed about a stub."""

    times: Annotated[int, Field(ge=0)] | None


class StubsView(ControlForm):
    """The stubs of an endpoint, in the order in which they are tried."""

    stubs: list[StubView]


class Charted(ControlForm):
    """Figures over time: a value for each of the moments `at_ms`, which end the steps."""

    now_ms: int
    at_ms: list[int]
    #: Jobs that ended, by state.
    ended: dict[str, list[int]]
    #: Jobs that went back to the queue.
    requeued: list[int]
    cold_starts: list[int]
    #: Percentiles in ms, `p70`, `p90` and `p98`.
    delay_ms: dict[str, list[int | None]]
    execution_ms: dict[str, list[int | None]]
    cold_start_ms: dict[str, list[int | None]]
    #: The most in each state.
    workers: dict[str, list[int]]
    #: How many answers of each status webhooks have had in all.
    webhooks: dict[str, int]
    totals: dict[str, int]
