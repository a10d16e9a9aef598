"""From what a handler returned, yielded or raised to the result a worker reports, as the SDK does it.

The rules are those of wire.md 3 and 7; where the SDK would report nothing (output that JSON cannot
express), the job is FAILED with a sentence that names the value.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import platform
import traceback

from emulator.core.json_text import NotJSON, encode
from emulator.core.result import JobResult
from emulator.errors import EmulatorError

#: Parts of the messages of what depends on the thread.
_BOUND_TO_A_THREAD = (
    "only works in main thread",
    "SQLite objects created in a thread can only be used in that same thread",
    "'_thread._local' object has no attribute",
)
#: Why no result comes of a job that nobody has stopped.
CANCELLED_ITSELF = "the handler cancelled its own task, or raised CancelledError"
#: What the SDK takes out of a returned dict for itself.
_SDK_KEYS = frozenset({"error", "refresh_worker"})


class WorkerCrash(EmulatorError):
    """The worker's process would be dead now."""


class ResultLost(BaseException):
    """What the handler brings does not reach the emulator, and the worker goes on."""


def result_of_value(value: object) -> JobResult:
    """The result for what a handler returned."""
    error = refresh = None
    if isinstance(value, dict) and not value.keys().isdisjoint(_SDK_KEYS):
        value = dict(value)
        error = value.pop("error", None)
        refresh = value.pop("refresh_worker", None)
    try:
        # The SDK leaves out the output when nothing but the two keys was there.
        output_json = None if isinstance(value, dict) and not value else encode(value)
        if error:
            return JobResult.of_error(error, output_json=output_json, stop_worker=bool(refresh))
        return JobResult(output_json=output_json, stop_worker=bool(refresh))
    except NotJSON as reason:
        return JobResult(error=str(reason), stop_worker=bool(refresh))


def result_of_exception(error: BaseException, worker_id: str) -> JobResult:
    """The result for what a handler raised: the SDK's JSON string with type, message and traceback.

    :raises WorkerCrash: the exception would have ended the worker's process.
    """
    crash_unless_caught(error)
    info = {
        "error_type": str(type(error)),
        "error_message": message_of(error),
        "error_traceback": users_traceback(error),
        "hostname": platform.node() or "unknown",
        "worker_id": worker_id,
        "runpod_version": _sdk_version(),
    }
    return JobResult(error=json.dumps(info), warning=inline_cannot(error))


def result_of_stream_exception(error: BaseException) -> JobResult:
    """The result for what a streaming handler raised, in the SDK's words.

    :raises WorkerCrash: the exception would have ended the worker's process.
    """
    crash_unless_caught(error)
    error_text = f"handler: {message_of(error)} \ntraceback: {users_traceback(error)}"
    return JobResult(error=error_text, warning=inline_cannot(error))


def message_of(error: BaseException) -> str:
    """What an exception says; a handler's own may not be able to."""
    try:
        return str(error)
    except Exception as failure:
        return f"<its message cannot be shown: {type(failure).__name__}>"


def inline_cannot(error: BaseException) -> str | None:
    """What to do about an error that only a handler in this process gets; None for any other."""
    message = message_of(error)
    if not any(part in message for part in _BOUND_TO_A_THREAD):
        return None
    return (
        "production loads and calls a handler in the main thread of a process. An inline worker has not got"
        " that thread, nor the one in which a function that it was given, or a module that another worker"
        " has loaded, made its connections and thread-locals: a process worker has (--worker-kind process)"
    )


def error_in_chunk(chunk: object) -> str | None:
    """The error that a yielded `{"error": …}` ends the stream with, if it is one."""
    if isinstance(chunk, dict) and chunk.get("error"):
        return str(chunk["error"])
    return None


def crash_unless_caught(error: BaseException) -> None:
    """Raise for what the SDK does not catch either: it ends the worker.

    :raises WorkerCrash: see above.
    """
    if isinstance(error, WorkerCrash):
        raise error
    if isinstance(error, SystemExit):
        raise WorkerCrash(f"the handler called sys.exit({error.code!r})") from error
    if not isinstance(error, Exception):
        raise WorkerCrash(f"the handler raised {type(error).__name__}") from error


def users_traceback(error: BaseException) -> str:
    """The traceback from the handler's own frame on."""
    inner = error.__traceback__.tb_next if error.__traceback__ is not None else None
    return "".join(traceback.format_exception(type(error), error, inner))


@functools.cache
def _sdk_version() -> str:
    try:
        return importlib.metadata.version("runpod")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
