"""The variables of a worker, which make its SDK one of an endpoint (wire.md 7)."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.workers.own_state import own_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Production's limit for a worker's start, in s, and the variable that moves it.
_INIT_TIMEOUT_S = 420.0
_INIT_TIMEOUT = "RUNPOD_INIT_TIMEOUT"
#: The shortest that the SDK's ping process survives: what a worker has let go of is known sooner.
_PING_INTERVAL_MS = 1_000


@dataclass(slots=True, frozen=True, kw_only=True)
class WireVariables:
    """The variables that make the SDK a worker of one endpoint, wherever it runs."""

    endpoint_id: str
    #: Where workers reach the emulator, e.g. `http://127.0.0.1:8000`.
    url: str
    api_key: str
    #: What the user adds; it beats all else.
    extra: dict[str, str]
    system_checks: bool
    #: A worker's secret, by its id.
    secret_of: Callable[[str], str]

    def init_timeout_s(self) -> float:
        """Seconds on the clock within which a worker must have asked for its first job."""
        text = self.extra.get(_INIT_TIMEOUT, os.environ.get(_INIT_TIMEOUT, ""))
        with suppress(ValueError):
            if math.isfinite(limit_s := float(text)) and limit_s > 0:
                return limit_s
        return _INIT_TIMEOUT_S

    def of(self, worker_id: str) -> dict[str, str]:
        """A worker's variables, without what the user adds."""
        base, query = f"{self.url}/v2/{self.endpoint_id}", f"?gpu=none&secret={self.secret_of(worker_id)}"
        return {
            **({} if self.system_checks else _WITHOUT_CHECKS),
            "PYTHONUNBUFFERED": "1",
            "RUNPOD_AI_API_KEY": self.api_key,
            "RUNPOD_ENDPOINT_ID": self.endpoint_id,
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_POD_HOSTNAME": worker_id,
            "RUNPOD_PING_INTERVAL": str(_PING_INTERVAL_MS),
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{query}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID{query}",
        }

    def of_container(self, worker_id: str) -> dict[str, str]:
        """All that a container is given beside what its image has."""
        # The SDK's default is DEBUG, a dozen lines a job.
        return {"RUNPOD_LOG_LEVEL": "INFO", **self.of(worker_id), **self.extra}


@dataclass(slots=True, frozen=True, kw_only=True)
class WorkerEnvironment:
    """The variables of a process on this machine, beside those by which it is a worker."""

    wire: WireVariables
    #: Their PATH, and the folder they run in.
    path: str
    folder: Path
    #: Where a worker may leave files, by its id; None when there is no such place.
    state_folder: Callable[[str], Path | None]

    def variables(self, worker_id: str) -> dict[str, str]:
        """All of a worker's variables. The emulator's own settings are none of its business."""
        return process_variables(
            self.wire.of(worker_id),
            self.wire.extra,
            path=self.path,
            folder=self.folder,
            state_folder=self.state_folder(worker_id),
        )


def process_variables(
    wire: Mapping[str, str], extra: Mapping[str, str], *, path: str, folder: Path, state_folder: Path | None
) -> dict[str, str]:
    """All variables of a worker's process on this machine: this process's own, those by which it is a worker,
    and the user's, which beat the others.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EMULATOR_")}
    variables = {
        # The SDK's default is DEBUG, a dozen lines a job.
        "RUNPOD_LOG_LEVEL": inherited.get("RUNPOD_DEBUG_LEVEL", "INFO"),
        **inherited,
        "PATH": path,
        "PWD": str(folder),
        "NO_PROXY": ",".join(filter(None, (inherited.get("NO_PROXY"), "127.0.0.1,localhost,::1"))),
        **wire,
        **extra,
    }
    return {**variables, **own_state(state_folder, variables.get("PYTHONPATH"))}


_WITHOUT_CHECKS = {"RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true", "RUNPOD_SKIP_GPU_CHECK": "true"}
