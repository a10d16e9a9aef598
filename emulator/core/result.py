"""What a worker brings back for a job."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.core.json_text import encode


@dataclass(slots=True, frozen=True, kw_only=True)
class JobResult:
    """The end of a job as its worker tells it (wire.md 3 and 7)."""

    #: JSON text; None when the handler left nothing.
    output_json: bytes | None = None
    #: Present when the job failed.
    error: str | None = None
    #: The worker wants to be replaced (refresh_worker, on the wire `stopPod`).
    stop_worker: bool = False
    #: What production would have done differently, for the log.
    warning: str | None = None

    @classmethod
    def of_error(
        cls, error: object, *, output_json: bytes | None = None, stop_worker: bool = False
    ) -> JobResult:
        """A failure; an error value that is not a string is kept as JSON (wire.md 3).

        :raises NotJSON: the error cannot be written as JSON.
        """
        if isinstance(error, str):
            return cls(output_json=output_json, error=error, stop_worker=stop_worker)
        return cls(
            output_json=output_json,
            error=encode(error, "error").decode(),
            stop_worker=stop_worker,
            warning=(
                f"the handler's error is a {type(error).__name__}, not a string: the job is FAILED here,"
                " but production has been seen to report COMPLETED without output; return a string"
            ),
        )
