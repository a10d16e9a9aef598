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


class LoopConnection(asyncio.Protocol):
    """A connection to the emulator on the loop: one request at a time, and its answer.

    A quick job costs little more than its calls. Made in a thread, or with `http.client`, each takes several
    times as long.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._transport: Any = None
        self._answered: Optional[asyncio.Future[tuple[int, bytes]]] = None
        self._come = bytearray()
        #: Of the answer that comes: its status, and where its body begins and ends.
        self._status = self._begins = self._ends = 0

    async def ask(self, request: bytes, timeout_s: Optional[float]) -> tuple[int, bytes]:
        """Status and body of the answer.

        :raises ConnectionError: it is closed before the answer, or is so after `timeout_s`.
        """
        if not self.is_open:
            raise ConnectionError("it was closed at once")
        loop = asyncio.get_running_loop()
        self._answered = loop.create_future()
        self._transport.write(request)
        patience = None if timeout_s is None else loop.call_later(timeout_s, self.close)
        try:
            return await self._answered
        finally:
            if patience is not None:
                patience.cancel()

    def close(self) -> None:
        """Have it be closed; who waits for an answer gets none."""
        self.is_open = False
        self._transport.abort()

    def replace_by_nothing(self) -> None:
        """Have this process's number for it mean another file, of which there is nothing to read."""
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, self._transport.get_extra_info("socket").fileno())
        os.close(nothing)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """A part of an answer has come."""
        if self._answered is None or self._answered.done():
            # Nobody has asked for it, and it would be taken for the answer to the next request.
            self.close()
            return
        self._come += data
        if not self._ends:
            head, end, _ = self._come.partition(b"\r\n\r\n")
            if not end:
                return
            self._begins = len(head) + len(end)
            self._read_head(bytes(head))
        if len(self._come) < self._ends:
            return
        body = bytes(self._come[self._begins : self._ends])
        del self._come[: self._ends]
        self._ends = 0
        self._answered.set_result((self._status, body))
        if self._come:
            self.close()

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.lower().split(b"\r\n")
        self._status = int(first.split(None, 2)[1])
        self._ends = self._begins
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"content-length":
                self._ends += int(value)
            elif name == b"connection" and value.strip() == b"close":
                self.is_open = False

    def connection_lost(self, error: Optional[Exception]) -> None:
        """It was closed, or broke."""
        self.is_open = False
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("it was closed before the answer"))


class Calls:
    """Calls to the emulator while the loop goes on, one after the other."""

    def __init__(self) -> None:
        self._authorization = os.environ.get("RUNPOD_AI_API_KEY", "")
        self._connection: Optional[LoopConnection] = None

    async def call(
        self, method: str, url: str, body: Optional[bytes] = None, timeout_s: Optional[float] = None
    ) -> tuple[int, bytes]:
        """Status and body of an answer; tries again until there is one, for which it waits `timeout_s`."""
        request = self._request(method, url, body)
        while True:
            connection = self._connection
            is_new = connection is None or not connection.is_open
            try:
                if connection is None or is_new:
                    connection = self._connection = await _connect(url)
                return await connection.ask(request, timeout_s)
            except OSError:
                if is_new:
                    # One that was open had but been closed meanwhile, as a server does with one that is idle.
                    await asyncio.sleep(_RETRY_S)
            except asyncio.CancelledError:
                # The answer that is still to come would be taken for that to the next call.
                if connection is not None:
                    connection.close()
                raise

    def leave_to_parent(self) -> None:
        """In a child that a handler has forked: read nothing on the connection, and end nothing of it.

        A loop that goes on in the child waits for the same files as that of its parent.
        """
        if self._connection is not None and self._connection.is_open:
            self._connection.replace_by_nothing()

    def _request(self, method: str, url: str, body: Optional[bytes]) -> bytes:
        host, _, target = url.partition("://")[2].partition("/")
        head = f"{method} /{target} HTTP/1.1\r\nHost: {host}\r\n"
        head += f"Authorization: {self._authorization}\r\n"
        if body is not None:
            head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        return b"%b\r\n%b" % (head.encode("latin-1"), body or b"")


async def _connect(url: str) -> LoopConnection:
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        LoopConnection, parts.hostname or "", parts.port or http.client.HTTP_PORT
    )
    return connection


class Runner:
    """A worker of one function."""

    def __init__(self, function: Callable[[dict[str, Any]], Any], why_not_json: Callable[..., Any]) -> None:
        self._function = function
        # As the SDK tells them apart: it does not look into an object that can be called.
        self._streams_async = inspect.isasyncgenfunction(function)
        self._streams = inspect.isgeneratorfunction(function)
        self._why_not_json = why_not_json
        self._worker_id = os.environ["RUNPOD_POD_ID"]
        self._take_url = os.environ["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", self._worker_id)
        self._stop_url = self._take_url.replace("/job-take/", "/job-stop/")
        self._calls = Calls()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._calls.leave_to_parent)
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
        running: dict[str, asyncio.Task[dict[str, Any]]] = {}

        def stop(job_id: str) -> None:
            if job_id in running:
                running[job_id].cancel()

        threading.Thread(
            target=self._watch_stop_signals,
            args=(lambda job_id: loop.call_soon_threadsafe(stop, job_id),),
            name="job-stop",
            daemon=True,
        ).start()
        job = await self._take()
        while True:
            job_id = self._job_id = job["id"]
            task = running[job_id] = loop.create_task(self._run_job(job_id, job))
            await asyncio.wait({task})
            del running[job_id]
            # What the SDK does not catch either ends the worker.
            following = None if task.cancelled() else await self._post(job_id, task.result())
            # Its result may be large, and the next job be long in coming.
            del task, job
            self._job_id = None
            job = following or await self._take()

    async def _run_job(self, job_id: str, job: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._streams_async:
                return await self._stream_async(job_id, job)
            if self._streams:
                return await self._stream(job_id, job)
            return await self._attempt(job)
        finally:
            self._end_if_forked()

    def _end_if_forked(self) -> None:
        """End a child that the handler has forked and that has left it: the job, the loop and the connections
        are its parent's.
        """
        if os.getpid() == self._process_id:
            return
        error = sys.exc_info()[1]
        if error is None:
            os._exit(0)
        if isinstance(error, SystemExit):
            os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
        _show(_traceback_of(error))
        os._exit(1)

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
            url = f"{self._take_url}&job_in_progress=0"
            status, body = await self._calls.call("GET", url, timeout_s=_POLL_TIMEOUT_S)
            job = _job_in(body) if status == 200 else None
            if job is not None:
                return job
            if status != 204:
                # This worker is going away, and will be ended, or a fault was ordered for the call.
                await asyncio.sleep(_RETRY_S)

    async def _post(self, job_id: str, result: dict[str, Any]) -> Optional[dict[str, Any]]:
        """Bring the end of a job; returns the next one, if there is one for this worker already."""
        try:
            body = self._encode(result)
        except Unwritable as error:
            kept = {key: result[key] for key in ("stopPod",) if key in result}
            body = self._encode({**kept, "error": str(error)})
        url = f"{self._url_of_result('RUNPOD_WEBHOOK_POST_OUTPUT', job_id)}&then_take=1"
        status, answer = await self._calls.call("POST", url, body)
        return _job_in(answer) if status == 200 else None

    async def _send_chunk(self, job_id: str, chunk: Any) -> Optional[dict[str, Any]]:
        """Post a chunk of a stream; returns the job's end if the chunk is one."""
        if isinstance(chunk, dict) and chunk.get("error"):
            return {"error": str(chunk["error"])}
        try:
            body = self._encode({"output": chunk}, "chunk")
        except Unwritable as error:
            return {"error": str(error)}
        await self._calls.call("POST", self._url_of_result("RUNPOD_WEBHOOK_POST_STREAM", job_id), body)
        return None

    def _url_of_result(self, variable: str, job_id: str) -> str:
        self._end_if_forked()
        return f"{_url_of(variable, self._worker_id, job_id)}&isStream=false"

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


def _job_in(answer: bytes) -> Optional[dict[str, Any]]:
    """The job in an answer; None where something else is in it, as a fault may have ordered."""
    try:
        job = json.loads(answer)
    except ValueError:
        return None
    return job if isinstance(job, dict) and isinstance(job.get("id"), str) else None


def _url_of(variable: str, worker_id: str, job_id: Optional[str] = None) -> str:
    url = os.environ[variable].replace("$RUNPOD_POD_ID", worker_id)
    return url.replace("$ID", job_id or "")


def _stream_raised(error: Exception) -> dict[str, Any]:
    _show(_traceback_of(error))
    return {"error": f"handler: {_message_of(error)} \ntraceback: {_traceback_of(error)}"}


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"<its message cannot be shown: {type(failure).__name__}>"


def _traceback_of(error: BaseException) -> str:
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
