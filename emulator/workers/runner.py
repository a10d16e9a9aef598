"""Runs one function as a worker: the program behind `handler.py:function` and `module:function`.

    python -u runner.py handler.py:function [arguments of the handler's own]

It speaks the worker protocol (wire.md 7) to wherever the SDK's variables point. It is run by its path
with the user's own interpreter, which need not have the emulator or the SDK: it imports the standard
library alone and keeps to what Python 3.8 understands.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib
import importlib.util
import inspect
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Optional
from urllib.parse import urlencode, urlsplit

#: The server holds a poll for a minute.
_POLL_TIMEOUT_S = 90
#: Between two tries to reach an emulator that does not answer.
_RETRY_S = 0.5
_DATA_TYPES = (dict, list, str, int, float, bool, type(None))


def _load_file(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Unwritable(Exception):
    """The value cannot be written as JSON."""


class Connection:
    """Calls to the emulator over one connection, from a thread of its own."""

    def __init__(self, timeout_s: Optional[float] = None) -> None:
        self._timeout_s = timeout_s
        self._http: Optional[http.client.HTTPConnection] = None
        self._authorization = os.environ.get("RUNPOD_AI_API_KEY", "")

    def call(self, method: str, url: str, body: Optional[bytes] = None) -> tuple[int, bytes]:
        """Status and body of an answer; tries again until there is one."""
        parts = urlsplit(url)
        headers = {"Authorization": self._authorization}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        while True:
            is_new = self._http is None
            try:
                if self._http is None:
                    self._http = http.client.HTTPConnection(
                        parts.hostname or "", parts.port, timeout=self._timeout_s
                    )
                self._http.request(method, f"{parts.path}?{parts.query}", body, headers)
                answer = self._http.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                if self._http is not None:
                    self._http.close()
                self._http = None
                if is_new:
                    # One that was open had but been closed meanwhile, as a server does with one that is idle.
                    time.sleep(_RETRY_S)


class CallsBesideLoop:
    """Calls to the emulator, one after the other, while the loop goes on."""

    def __init__(self, name: str, timeout_s: Optional[float] = None) -> None:
        self._connection = Connection(timeout_s)
        self._asked: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, method: str, url: str, body: Optional[bytes] = None) -> tuple[int, bytes]:
        """Status and body of an answer. When who waits for it is cancelled, the call is made all the same."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._asked.put((loop, answered, (method, url, body)))
        return await answered

    def _run(self) -> None:
        while True:
            loop, answered, arguments = self._asked.get()
            outcome: Any
            try:
                outcome = self._connection.call(*arguments)
            except Exception as error:  # it ends the program, and not only this thread
                outcome = error
            # The loop is closed when the handler has ended the program.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, answered, outcome)


def _resolve(answered: asyncio.Future[Any], outcome: Any) -> None:
    if answered.done():
        # Who waited has been cancelled.
        return
    if isinstance(outcome, Exception):
        answered.set_exception(outcome)
    else:
        answered.set_result(outcome)


class Runner:
    """A worker of one function."""

    def __init__(self, function: Callable[[dict[str, Any]], Any], why_not_json: Callable[..., Any]) -> None:
        self._function = function
        self._why_not_json = why_not_json
        self._worker_id = os.environ["RUNPOD_POD_ID"]
        self._take_url = os.environ["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", self._worker_id)
        self._stop_url = self._take_url.replace("/job-take/", "/job-stop/")
        self._takes = CallsBesideLoop("job-take", _POLL_TIMEOUT_S)
        self._results = CallsBesideLoop("job-done")
        #: The job that runs.
        self._job_id: Optional[str] = None
        self._process_id = os.getpid()

    def run(self) -> None:
        """Take and run jobs until the process is ended."""
        threading.Thread(target=self._ping, name="ping", daemon=True).start()
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        """All on one loop, in the main thread, as the SDK does it: what a handler puts on it goes on."""
        loop = asyncio.get_running_loop()
        running: dict[str, asyncio.Task[None]] = {}

        def stop(job_id: str) -> None:
            if job_id in running:
                running[job_id].cancel()

        threading.Thread(
            target=self._watch_stop_signals,
            args=(lambda job_id: loop.call_soon_threadsafe(stop, job_id),),
            name="job-stop",
            daemon=True,
        ).start()
        while True:
            job = await self._take()
            job_id = self._job_id = job["id"]
            task = running[job_id] = loop.create_task(self._run_job(job_id, job))
            await asyncio.wait({task})
            del running[job_id]
            self._job_id = None
            if not task.cancelled():
                # What the SDK does not catch either ends the worker.
                task.result()

    async def _run_job(self, job_id: str, job: dict[str, Any]) -> None:
        # As the SDK tells them apart: it does not look into an object that can be called.
        if inspect.isasyncgenfunction(self._function):
            result = await self._stream_async(job_id, job)
        elif inspect.isgeneratorfunction(self._function):
            result = await self._stream(job_id, job)
        else:
            result = await self._attempt(job)
        await self._post(job_id, result)

    async def _attempt(self, job: dict[str, Any]) -> dict[str, Any]:
        try:
            value = self._function(job)
            if not isinstance(value, _DATA_TYPES) and inspect.isawaitable(value):
                value = await value
        except Exception as error:
            return self._raised(error)
        return self._returned(value)

    async def _stream(self, job_id: str, job: dict[str, Any]) -> dict[str, Any]:
        try:
            chunks = self._function(job)
            for chunk in chunks:
                if (failure := await self._send_chunk(job_id, chunk)) is not None:
                    chunks.close()
                    return failure
        except Exception as error:
            return _stream_raised(error)
        return {"output": []}

    async def _stream_async(self, job_id: str, job: dict[str, Any]) -> dict[str, Any]:
        try:
            chunks = self._function(job)
            async for chunk in chunks:
                if (failure := await self._send_chunk(job_id, chunk)) is not None:
                    await chunks.aclose()
                    return failure
        except Exception as error:
            return _stream_raised(error)
        return {"output": []}

    def _watch_stop_signals(self, stop: Callable[[str], Any]) -> None:
        polls = Connection(_POLL_TIMEOUT_S)
        while True:
            status, body = polls.call("GET", self._stop_url)
            if status == 200:
                for job_id in json.loads(body)["jobsToStop"]:
                    stop(job_id)
            elif status != 204:
                time.sleep(_RETRY_S)

    async def _take(self) -> dict[str, Any]:
        while True:
            status, body = await self._takes.call("GET", f"{self._take_url}&job_in_progress=0")
            if status == 200:
                job: dict[str, Any] = json.loads(body)
                return job
            if status != 204:
                # This worker is going away, and will be ended.
                await asyncio.sleep(_RETRY_S)

    async def _post(self, job_id: str, result: dict[str, Any]) -> None:
        try:
            body = self._encode(result)
        except Unwritable as error:
            kept = {key: result[key] for key in ("stopPod",) if key in result}
            body = self._encode({**kept, "error": str(error)})
        await self._bring("RUNPOD_WEBHOOK_POST_OUTPUT", job_id, body)

    async def _send_chunk(self, job_id: str, chunk: Any) -> Optional[dict[str, Any]]:
        """Post a chunk of a stream; returns the job's end if the chunk is one."""
        if isinstance(chunk, dict) and chunk.get("error"):
            return {"error": str(chunk["error"])}
        try:
            body = self._encode({"output": chunk}, "chunk")
        except Unwritable as error:
            return {"error": str(error)}
        await self._bring("RUNPOD_WEBHOOK_POST_STREAM", job_id, body)
        return None

    async def _bring(self, variable: str, job_id: str, body: bytes) -> None:
        if os.getpid() != self._process_id:
            # The handler has forked, and this is the child: the job is its parent's.
            os._exit(0)
        await self._results.call("POST", f"{_url_of(variable, self._worker_id, job_id)}&isStream=false", body)

    def _encode(self, fields: dict[str, Any], name: str = "output") -> bytes:
        try:
            return json.dumps(fields, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            for key, value in fields.items():
                if why := self._why_not_json(value, name if key == "output" else key):
                    raise Unwritable(why) from error
            raise Unwritable(f"{name} cannot be written as JSON: {error}") from error

    def _returned(self, value: Any) -> dict[str, Any]:
        """The result for what a handler returned, by the SDK's rules."""
        if not isinstance(value, dict):
            return {"output": value}
        value = dict(value)
        error, refresh = value.pop("error", None), value.pop("refresh_worker", None)
        result: dict[str, Any] = {"output": value} if value else {}
        if error:
            result["error"] = error
        if refresh:
            result["stopPod"] = True
        return result

    def _raised(self, error: Exception) -> dict[str, Any]:
        """The result for what a handler raised, in the SDK's form."""
        _show(_traceback_of(error))
        info = {
            "error_type": str(type(error)),
            "error_message": _message_of(error),
            "error_traceback": _traceback_of(error),
            "hostname": os.environ.get("RUNPOD_POD_HOSTNAME", "unknown"),
            "worker_id": self._worker_id,
            "runpod_version": _sdk_version(),
        }
        return {"error": json.dumps(info)}

    def _ping(self) -> None:
        pings = Connection(_POLL_TIMEOUT_S)
        interval_s = max(1, int(os.environ.get("RUNPOD_PING_INTERVAL", "10000")) / 1000)
        while True:
            query = urlencode({"job_id": self._job_id} if self._job_id else {})
            pings.call("GET", f"{_url_of('RUNPOD_WEBHOOK_PING', self._worker_id)}&{query}")
            time.sleep(interval_s)


def _url_of(variable: str, worker_id: str, job_id: Optional[str] = None) -> str:
    url = os.environ[variable].replace("$RUNPOD_POD_ID", worker_id)
    return url.replace("$ID", job_id or "")


def _stream_raised(error: Exception) -> dict[str, Any]:
    _show(_traceback_of(error))
    return {"error": f"handler: {_message_of(error)} \ntraceback: {_traceback_of(error)}"}


def _message_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"<its message cannot be shown: {type(failure).__name__}>"


def _traceback_of(error: Exception) -> str:
    """The traceback from the handler's own frame on."""
    handlers_part = error.__traceback__.tb_next if error.__traceback__ is not None else None
    return "".join(traceback.format_exception(type(error), error, handlers_part))


def _show(text: str) -> None:
    """Write to standard error, unless the handler has closed it."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)


def _sdk_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("runpod")
    except metadata.PackageNotFoundError:
        return "not installed"


def _load_function(source: str) -> Callable[[dict[str, Any]], Any]:
    place, _, name = source.rpartition(":")
    sys.path[0] = os.getcwd()
    if place.endswith(".py"):
        path = Path(place).resolve()
        if str(path.parent) != sys.path[0]:
            # First, as Python has it for a script.
            sys.path.insert(0, str(path.parent))
        module = _load_file(path, path.stem)
    else:
        module = importlib.import_module(place)
    function = getattr(module, name, None)
    if not callable(function):
        names = sorted(key for key, value in vars(module).items() if callable(value) and key[0] != "_")
        sys.exit(f"{source}: there is no function {name} in it; it defines: {', '.join(names) or 'none'}")
    return function  # type: ignore[no-any-return]


def _load_failure(error: Exception) -> str:
    """What the user's code raised while it was imported, without the frames that imported it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen")
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    return "".join(lines + traceback.format_exception_only(type(error), error)).rstrip()


def main() -> None:
    """Load the function named on the command line and run it."""
    faults = _load_file(Path(__file__).resolve().parents[1] / "core" / "json_faults.py", "_json_faults")
    source = sys.argv[1]
    sys.argv = [source, *sys.argv[2:]]
    try:
        function = _load_function(source)
    except Exception as error:
        print(_load_failure(error), file=sys.stderr)
        sys.exit(1)
    Runner(function, faults.why_not_json).run()


if __name__ == "__main__":
    main()
