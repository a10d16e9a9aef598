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
    """Calls to the emulator, one after the other, over one connection."""

    def __init__(self, timeout_s: Optional[float] = None) -> None:
        self._timeout_s = timeout_s
        self._http: Optional[http.client.HTTPConnection] = None
        self._authorization = os.environ.get("RUNPOD_AI_API_KEY", "")
        # A stopped job's last call may still be under way when the next job makes its first.
        self._one_at_a_time = threading.Lock()

    def call(self, method: str, url: str, body: Optional[bytes] = None) -> tuple[int, bytes]:
        """Status and body of an answer; tries again until there is one."""
        parts = urlsplit(url)
        headers = {"Authorization": self._authorization}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        with self._one_at_a_time:
            while True:
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
                    time.sleep(_RETRY_S)


class Runner:
    """A worker of one function."""

    def __init__(self, function: Callable[[dict[str, Any]], Any], why_not_json: Callable[..., Any]) -> None:
        self._function = function
        self._why_not_json = why_not_json
        self._worker_id = os.environ["RUNPOD_POD_ID"]
        self._take_url = os.environ["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", self._worker_id)
        self._stop_url = self._take_url.replace("/job-take/", "/job-stop/")
        self._takes = Connection(_POLL_TIMEOUT_S)
        self._results = Connection()
        #: The job that runs.
        self._job_id: Optional[str] = None
        self._process_id = os.getpid()

    def run(self) -> None:
        """Take and run jobs until the process is ended."""
        threading.Thread(target=self._ping, name="ping", daemon=True).start()
        if inspect.iscoroutinefunction(self._function) or inspect.isasyncgenfunction(self._function):
            asyncio.run(self._serve_on_loop())
            return
        loop = asyncio.new_event_loop()
        while True:
            job = self._take()
            self._post(self._attempt(job, loop))

    # A handler that is not async: in this thread

    def _attempt(self, job: dict[str, Any], loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        try:
            value = self._function(job)
        except Exception as error:
            return self._raised(error)
        if inspect.isgenerator(value):
            return self._stream(value)
        if not isinstance(value, _DATA_TYPES) and inspect.isawaitable(value):
            try:
                value = loop.run_until_complete(_awaited(value))
            except Exception as error:
                return self._raised(error)
        return self._returned(value)

    def _stream(self, chunks: Any) -> dict[str, Any]:
        try:
            for chunk in chunks:
                if (failure := self._send_chunk(chunk)) is not None:
                    chunks.close()
                    return failure
        except Exception as error:
            return _stream_raised(error)
        return {"output": []}

    # An async handler: on a loop of its own, with the polls in threads

    async def _serve_on_loop(self) -> None:
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
            job = await _in_thread(self._take)
            task = running[job["id"]] = loop.create_task(self._run_async(job))
            await asyncio.wait({task})
            del running[job["id"]]
            self._job_id = None
            if not task.cancelled():
                # What the SDK does not catch either ends the worker.
                task.result()

    async def _run_async(self, job: dict[str, Any]) -> None:
        result = await self._attempt_async(job)
        await _in_thread(self._post, result)

    async def _attempt_async(self, job: dict[str, Any]) -> dict[str, Any]:
        if inspect.isasyncgenfunction(self._function):
            chunks = self._function(job)
            try:
                async for chunk in chunks:
                    failure = await _in_thread(self._send_chunk, chunk)
                    if failure is not None:
                        await chunks.aclose()
                        return dict(failure)
            except Exception as error:
                return _stream_raised(error)
            return {"output": []}
        try:
            value = await self._function(job)
        except Exception as error:
            return self._raised(error)
        return self._returned(value)

    def _watch_stop_signals(self, stop: Callable[[str], Any]) -> None:
        polls = Connection(_POLL_TIMEOUT_S)
        while True:
            status, body = polls.call("GET", self._stop_url)
            if status == 200:
                for job_id in json.loads(body)["jobsToStop"]:
                    stop(job_id)
            elif status != 204:
                time.sleep(_RETRY_S)

    # What is the same for both

    def _take(self) -> dict[str, Any]:
        while True:
            status, body = self._takes.call("GET", f"{self._take_url}&job_in_progress=0")
            if status == 200:
                job: dict[str, Any] = json.loads(body)
                self._job_id = job["id"]
                return job
            if status != 204:
                # This worker is going away, and will be ended.
                time.sleep(_RETRY_S)

    def _post(self, result: dict[str, Any]) -> None:
        if os.getpid() != self._process_id:
            # The handler has forked, and this is the child: the result is its parent's to bring.
            os._exit(0)
        url = _url_of("RUNPOD_WEBHOOK_POST_OUTPUT", self._worker_id, self._job_id)
        try:
            body = self._encode(result)
        except Unwritable as error:
            body = self._encode({"error": str(error)})
        self._results.call("POST", f"{url}&isStream=false", body)
        self._job_id = None

    def _send_chunk(self, chunk: Any) -> Optional[dict[str, Any]]:
        """Post a chunk of a stream; returns the job's end if the chunk is one."""
        if isinstance(chunk, dict) and chunk.get("error"):
            return {"error": str(chunk["error"])}
        url = _url_of("RUNPOD_WEBHOOK_POST_STREAM", self._worker_id, self._job_id)
        try:
            self._results.call("POST", f"{url}&isStream=false", self._encode({"output": chunk}, "chunk"))
        except Unwritable as error:
            return {"error": str(error)}
        return None

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


async def _awaited(value: Any) -> Any:
    return await value


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, lambda: function(*arguments))


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
