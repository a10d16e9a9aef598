"""What a worker brings back for a job."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.core.json_text import encode

#: wire.md 2: what production takes as the result of a job of /run, and of /runsync.
RUN_RESULT_MIB = 10
RUNSYNC_RESULT_MIB = 20
MIB = 1024 * 1024


@dataclass(slots=True, kw_only=True)
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

    @property
    def size(self) -> int:
        """About how many bytes it is on the wire."""
        return len(self.output_json or b"") + len((self.error or "").encode("utf-8", "surrogatepass"))

    def within(self, limit: ResultLimit) -> JobResult:
        """The result that becomes of this one where no larger ones are taken."""
        if self.size <= limit.mib * MIB:
            return self
        return limit.refusal(f"{self.size / MIB:.1f} MB", stop_worker=self.stop_worker)

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


@dataclass(slots=True, frozen=True)
class ResultLimit:
    """How large the results of a kind of jobs may be, and whose limit that is."""

    mib: int
    whose: str

    @classmethod
    def of(cls, set_mib: int | None, *, sync: bool) -> ResultLimit:
        """The limit that was set, or production's (wire.md 2); `sync`: for jobs of /runsync."""
        if set_mib is not None:
            return cls(set_mib, f"--result-limit is {set_mib} MB")
        mib, operation = (RUNSYNC_RESULT_MIB, "/runsync") if sync else (RUN_RESULT_MIB, "/run")
        return cls(mib, f"production takes at most {mib} MB for {operation}")

    def refusal(self, size: str, *, stop_worker: bool = False) -> JobResult:
        """What is left of a result of this size: as in production the worker gets 400, the client nothing."""
        return JobResult(
            stop_worker=stop_worker,
            warning=(
                f"the output is {size}: {self.whose}, the worker is answered 400, and the job is COMPLETED"
                " without output; store what is so large (docs/s3.md), and return its URL"
            ),
        )
