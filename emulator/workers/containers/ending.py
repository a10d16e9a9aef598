"""Why a worker's container has ended, or could not be started: a sentence that says what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.workers.start_failure import ending, quoted, raised_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.workers.containers.engine import Image

#: Exit codes above this are signals, as a shell counts.
_SIGNALS = 128
_COMMAND_NOT_RUN = (126, 127)


@dataclass(slots=True, frozen=True, kw_only=True)
class Ended:
    """How a container has ended, by the engine's word."""

    code: int
    #: The kernel has ended a process of its for want of memory.
    out_of_memory: bool
    #: What the engine says beside, if anything.
    error: str

    @classmethod
    def of(cls, state: dict[str, Any]) -> Ended:
        """As the engine describes it."""
        return cls(
            code=int(state.get("ExitCode", 0)),
            out_of_memory=bool(state.get("OOMKilled")),
            error=str(state.get("Error") or ""),
        )


def why_ended(
    ended: Ended, image: Image, lines: Sequence[str], *, was_up: bool, memory: str, engine_platform: str
) -> str:
    """The sentence for a container that wrote `lines` last."""
    code = ended.code
    how = ending(_SIGNALS - code if _SIGNALS < code < _SIGNALS + 65 else code).replace(
        "process", "container", 1
    )
    if ended.out_of_memory:
        limit = f"its limit of {memory}" if memory else "what the engine's machine has"
        how = how.partition(" (was it")[0]
        return f"{how}: out of memory, it needed more than {limit} (the engine says OOMKilled){quoted(lines)}"
    if ended.error:
        how += f" ({ended.error})"
    if was_up:
        return how + quoted(lines)
    if any("exec format error" in line.lower() for line in lines):
        return f"{how}: {_other_platform(image, engine_platform)}"
    if raised := raised_in(lines) if code == 1 else "":
        return raised
    if code == 0:
        how += (
            " and never asked for a job: its command must stay for as long as its worker is to live; does it"
            " call runpod.serverless.start? Another is given with --command"
        )
    return how + quoted(lines)


def why_not_made(said: str, image: Image, engine_platform: str) -> str:
    """The sentence for a container that the engine refuses to make or to start."""
    said = said.removeprefix("the Docker engine says: ")
    lower = said.lower()
    if "exec format error" in lower or "no matching manifest" in lower:
        return _other_platform(image, engine_platform)
    if "could not select device driver" in lower:
        return (
            "this engine has no GPUs for containers: install nvidia-container-toolkit, or leave out gpus"
            f" ({said})"
        )
    if "no command specified" in lower:
        return f"image {image.name} has neither CMD nor ENTRYPOINT: say what it is to run with --command"
    if "executable file not found" in lower or "no such file or directory" in lower:
        return f"the command is not in image {image.name}: give another with --command ({said})"
    return f"its container cannot be started: {said}"


def _other_platform(image: Image, engine_platform: str) -> str:
    return (
        f"image {image.name} is for {image.platform}, and the engine is {engine_platform}: build it with"
        f" --platform {engine_platform}, or have the engine run other platforms (binfmt_misc)"
    )
