"""One job after the other in an emulator of this process alone: what `invoke` and `test` share."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from emulator.cli.help import words_before_dashes
from emulator.cli.log_format import LogFormat, configure_logging, log
from emulator.cli.terminal_text import printable
from emulator.core.config import EndpointConfig, WorkerKind, words_of
from emulator.core.container import ContainerSettings
from emulator.core.events import JobMoved, Notice, WorkerMoved, WorkerWrote
from emulator.core.job import TERMINAL, JobStatus
from emulator.core.job_error import explained
from emulator.core.job_life import ERROR_EXECUTION_TIMEOUT, ERROR_LOST_TWICE
from emulator.core.policy import TTL_MAX_MS, ExecutionPolicy
from emulator.core.request import JobRequest
from emulator.core.worker import WorkerState
from emulator.emulator import DEFAULT_ENDPOINT_ID, Emulator
from emulator.errors import ConfigError
from emulator.settings import interpreter, worker_env

if TYPE_CHECKING:
    from types import FrameType

    from emulator.clock.timers import Timer
    from emulator.core.events import Event, WorkerLine
    from emulator.core.job import Job

EXIT_OK = 0
#: A job failed.
EXIT_FAILED = 1
#: Nothing could be run: wrong usage, a bad file, a handler that does not load.
EXIT_USAGE = 2
#: A job took too long and was stopped.
EXIT_TIMED_OUT = 4

#: How long a worker may take to ask for its first job, unless RUNPOD_INIT_TIMEOUT (s) says otherwise: as in
#: production.
_START_LIMIT_MS = 420_000
#: How long a worker that is up may leave a job in the queue. The SDK pauses for 5 s at most, but what a
#: handler has left to be done on its loop may keep it from asking.
_TAKE_LIMIT_MS = 60_000
#: Longer than anything that is awaited here.
_FOR_EVER_MS = 86_400_000
#: After how long a job is missed that no worker will ever bring back. No heartbeats are lost on the way
#: from a process of this machine, so there is nothing to be patient for.
_LOST_AFTER_MS = 200
#: How long a worker may hold on to a job that took too long, before it is ended.
_STOP_GRACE_MS = 500
#: Real seconds for everything to end after Ctrl-C, and for a handler that keeps even the event loop busy.
_END_PATIENCE_S = 5.0
_LOOP_PATIENCE_S = 1.0

#: What the SDK says around every job, and what it logs of an exception that the job's error tells in full.
_SDK_GREETING = "--- Starting Serverless Worker"
_SDK_ROUTINE = (
    "Jobs in queue: ",
    "Jobs in progress: ",
    "Started.",
    "Finished.",
    "Captured Handler Exception",
    '{\n    "error_type": ',
)


class End(Enum):
    """How it went with a job."""

    COMPLETED = auto()
    FAILED = auto()
    TIMED_OUT = auto()
    """The handler held it for too long and has been told to stop."""
    NOT_TAKEN = auto()
    """No worker came up to take it, or none that was up asked for it."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Outcome:
    """A job that has ended, or will never begin."""

    end: End
    job: Job
    #: Why it did not complete, in a sentence.
    why: str = ""
    #: Of a handler that raised.
    traceback: str = ""
    #: What else a person should know about it.
    note: str = ""


class JobRunner:
    """Runs jobs at one endpoint, one at a time; see `job_runner`."""

    def __init__(self, config: EndpointConfig, on_line: Callable[[WorkerLine, str | None], None]) -> None:
        self.emulator = Emulator(
            {DEFAULT_ENDPOINT_ID: config}, rate_limits=False, journal_entries=0, on_event=self._on_event
        )
        self.clock = self.emulator.clock
        self._endpoint = self.emulator.endpoint(DEFAULT_ENDPOINT_ID)
        self._on_line = on_line
        self._job: Job | None = None
        self._note = ""
        #: Why the job will never begin, or not a second time.
        self._obstacle: asyncio.Future[str] | None = None
        #: A worker has asked for a job at least once.
        self.has_had_worker = False
        self._start_limit_ms = _start_limit_ms(config)
        #: Runs out when a job has been in the queue for too long.
        self._limit: Timer | None = None

    async def run(
        self,
        job_input: Any,
        *,
        timeout_ms: int,
        on_submitted: Callable[[Job], None] | None = None,
        on_chunk: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        """Run one job to its end; `timeout_ms` is its executionTimeout, and may be shorter than production's.

        `on_chunk` gets each chunk (JSON text) that the handler streams, as it comes.

        :raises MalformedRequest: the input is none.
        """
        policy = ExecutionPolicy(execution_timeout_ms=timeout_ms, ttl_ms=TTL_MAX_MS)
        obstacle = self._obstacle = asyncio.get_running_loop().create_future()
        self._note = ""
        job = self._job = self._endpoint.submit(JobRequest.of({"input": job_input}, policy))
        if on_submitted is not None:
            on_submitted(job)
        self._watch_queue()
        following = asyncio.ensure_future(self._follow(job, on_chunk))
        try:
            await asyncio.wait({following, obstacle}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            following.cancel()
            await asyncio.wait({following})
        if not job.terminal:
            self._endpoint.cancel(job.id)
            why = obstacle.result()
            if not job.retries:
                return Outcome(end=End.NOT_TAKEN, job=job, why=why)
            lost = self._note.partition(": ")[2]
            return Outcome(end=End.FAILED, job=job, why=f"it was lost ({lost}), then not taken again: {why}")
        return self._outcome(job)

    async def _follow(self, job: Job, on_chunk: Callable[[bytes], None] | None) -> None:
        """Return when the job has ended and its chunks have been handed on."""
        if on_chunk is None:
            await self._endpoint.wait(job, None)
            return
        status = JobStatus.IN_QUEUE
        # A quick handler has ended by now, and its chunks are there all the same.
        while status not in TERMINAL:
            status, chunks = await self._endpoint.read_stream(job, _FOR_EVER_MS)
            for chunk in chunks:
                on_chunk(chunk)

    def _outcome(self, job: Job) -> Outcome:
        if job.status is JobStatus.COMPLETED:
            return Outcome(end=End.COMPLETED, job=job, note=self._note)
        if (
            job.error == ERROR_EXECUTION_TIMEOUT
            and (job.execution_ms or 0) >= job.policy.execution_timeout_ms
        ):
            return Outcome(end=End.TIMED_OUT, job=job, why=ERROR_EXECUTION_TIMEOUT)
        error = job.error or f"the job is {job.status}"
        if error == ERROR_LOST_TWICE and self._note:
            return Outcome(end=End.FAILED, job=job, why=f"{error}: {self._note.partition(': ')[2]}")
        why, traceback = explained(error)
        return Outcome(end=End.FAILED, job=job, why=why, traceback=traceback, note=self._note)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, WorkerWrote):
            if not _is_routine(event.line):
                self._on_line(event.line, event.job_id)
        elif isinstance(event, Notice):
            if self._job is not None and event.job_id == self._job.id and event.level == "warning":
                self._note = event.message
        elif isinstance(event, WorkerMoved) and event.lost and event.before is WorkerState.INITIALIZING:
            # What it wrote is shown as the handler's output.
            reason = re.sub(r"^restarting in \d+ ms: ", "", event.reason).partition("; it wrote: ")[0]
            self._give_up(f"the worker did not start: {reason}")
        if isinstance(event, WorkerMoved):
            self.has_had_worker |= event.after is WorkerState.IDLE
            self._watch_queue()
        elif isinstance(event, JobMoved) and event.job is self._job:
            self._watch_queue()

    def _watch_queue(self) -> None:
        """Limit the time that the job is in the queue, anew with each step of its own or of the worker."""
        self.clock.cancel(self._limit)
        self._limit = None
        if self._job is None or self._job.status is not JobStatus.IN_QUEUE:
            return
        is_up = any(worker.state is WorkerState.IDLE for worker in self._endpoint.pool)
        limit_ms = _TAKE_LIMIT_MS if is_up else self._start_limit_ms
        self._limit = self.clock.call_later(limit_ms, "start limit", self._on_limit, is_up)

    def _on_limit(self, is_up: bool) -> None:
        self._limit = None
        if is_up:
            limit_s = _TAKE_LIMIT_MS // 1000
            why = f"the worker is up but has not asked for the job for {limit_s} s; it was replaced"
        else:
            limit_s = self._start_limit_ms // 1000
            why = (
                f"the worker did not start: it has not asked for a job within {limit_s} s"
                " (RUNPOD_INIT_TIMEOUT among its variables sets another limit); it was replaced"
            )
        self._give_up(why)
        # The next job is to have one that may do better.
        for worker in list(self._endpoint.pool):
            self._endpoint.pool.end(worker, why, kill=True)

    def _give_up(self, reason: str) -> None:
        if self._obstacle is not None and not self._obstacle.done():
            self._obstacle.set_result(reason)


@asynccontextmanager
async def job_runner(
    config: EndpointConfig, on_line: Callable[[WorkerLine, str | None], None]
) -> AsyncIterator[JobRunner]:
    """A runner whose worker is up as long as the body runs; afterwards no process of it is left.

    `on_line` gets what worker processes print, with the id of the job it is about; the last lines come
    while the workers end.

    :raises HandlerError: the handler cannot be loaded.
    """
    runner = JobRunner(config, on_line)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(runner.emulator)
        if config.worker_kind is not WorkerKind.INLINE:
            await stack.enter_async_context(runner.emulator.serve())
        yield runner


def one_worker(
    handler: str | None,
    kind: WorkerKind,
    python: str | None,
    env: Mapping[str, str] | None = None,
    command: str | None = None,
    worker_args: Sequence[str] = (),
    image: str | None = None,
    container: ContainerSettings | None = None,
) -> EndpointConfig:
    """The endpoint for a few jobs in a row: one worker, which stays.

    :raises ConfigError: there is no such interpreter, not exactly one of handler and command, or arguments
        for a handler that runs in this process.
    """
    if worker_args and kind is WorkerKind.INLINE:
        raise ConfigError("arguments are those of a script's process: they do not go with an inline handler")
    return EndpointConfig(
        handler=handler,
        command=() if command is None else words_of(command),
        image=image,
        container=container or ContainerSettings(),
        worker_kind=kind,
        workers_max=1,
        idle_timeout_s=_FOR_EVER_MS / 1000,
        python=interpreter(python) if python else None,
        worker_env={**worker_env(), **(env or {})},
        worker_args=tuple(worker_args),
        stop_grace_ms=_STOP_GRACE_MS,
        heartbeat_timeout_ms=_LOST_AFTER_MS,
    )


def split_words(
    context: typer.Context, first: str | None, others: Sequence[str] | None
) -> tuple[str | None, tuple[str, ...]]:
    """The command's own argument, if one was given, and the handler's, which stand behind `--`.

    :raises ConfigError: more than one stands before it.
    """
    words = [*([] if first is None else [first]), *(others or ())]
    before = words_before_dashes(context, len(words))
    if before > 1:
        raise ConfigError(f"{words[1]!r} is one argument too many: those of the handler's script follow --")
    return (words[0] if before else None), tuple(words[max(before, 0) :])


def command_of(command: str | None, module: str | None, handler: str | None) -> str | None:
    """What is to run in place of a handler: a command, or a module.

    :raises ConfigError: more than one of the three is given.
    """
    if module is None:
        return command
    if other := command or handler:
        raise ConfigError(f"there is a module ({module}) and {other}: give one of them")
    return shlex.join(["python", "-m", module])


def container_of(image: str | None, gpus: str, volumes: Sequence[str] | None) -> ContainerSettings:
    """How the container of an image is made.

    :raises ConfigError: there is no image, or a volume is none.
    """
    if image is None and (gpus or volumes):
        raise ConfigError("--gpus and --volume are of an image's container: there is no --image")
    return ContainerSettings(gpus=gpus, volumes=tuple(volumes or ()))


def _start_limit_ms(config: EndpointConfig) -> int:
    """As the worker's environment has it."""
    given = {**os.environ, **config.worker_env}.get("RUNPOD_INIT_TIMEOUT", "")
    return int(given) * 1000 if given.isdecimal() and int(given) else _START_LIMIT_MS


def _is_routine(line: WorkerLine) -> bool:
    """Whether it is one of the SDK's own lines that says nothing new."""
    if line.level is None:
        return line.text.startswith(_SDK_GREETING)
    return line.level == "DEBUG" or line.text.startswith(_SDK_ROUTINE)


def configure_log(*, verbose: bool) -> None:
    """Log warnings alone, and of jobs and workers nothing: the command itself tells how they end. How far the
    pull of an image is, is told as well.
    """
    configure_logging(LogFormat.TEXT, "info" if verbose else "warning")
    logging.getLogger("emulator.pull").setLevel(logging.INFO)
    if not verbose:
        for handler in log.handlers:
            handler.addFilter(_is_no_event)


def _is_no_event(record: logging.LogRecord) -> bool:
    return not hasattr(record, "fields")


def tell(message: str) -> None:
    """Tell a person something, on standard error."""
    typer.echo(printable(message), err=True)


# The end of the command


def run_to_exit_code(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a command's work and return its exit code. Ctrl-C and SIGTERM end it with all it has started."""
    with asyncio.Runner() as runner:
        return runner.run(_interruptible(work()))


async def _interruptible(work: Coroutine[Any, Any, int]) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if received:
            # Not for the first time. The guard ends the workers that are left (workers/guard.py).
            os._exit(128 + number)
        received.append(number)
        # Not by print: the interrupted code may be in the middle of one.
        os.write(2, b"interrupted\n")
        loop.call_soon_threadsafe(task.cancel)
        _after(_END_PATIENCE_S, lambda: os._exit(128 + number))

    # Not the loop's own signal handlers: those never run while a handler in this process blocks the loop.
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = await work
    except asyncio.CancelledError:
        if not received:
            raise
        code = 128 + received[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        leave(code)
    return code


def leave(code: int) -> NoReturn:
    """End this process at once: a handler may still be at it, in a thread that cannot be stopped."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def ended_by_force(timeout_ms: int, sentence: str) -> Iterator[None]:
    """End this process when the body takes longer than a time-out and a bit, and say why.

    For a handler in this process that lets nobody else run, not even the loop with the clock in it.
    """

    def end() -> None:
        os.write(2, f"error: {sentence}\n".encode())
        os._exit(EXIT_TIMED_OUT)

    timer = _after(timeout_ms / 1000 + _LOOP_PATIENCE_S, end)
    try:
        yield
    finally:
        timer.cancel()


def _after(seconds: float, do: Callable[[], None]) -> threading.Timer:
    """Have a thread do something after so many real seconds: the loop may be kept from it."""
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()
    return timer
