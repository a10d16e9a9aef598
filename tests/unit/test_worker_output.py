"""A worker's output: cut into lines, read as the SDK means it, and never too much."""

import asyncio
import json

import pytest

from emulator.clock.clock import VirtualClock
from emulator.core.events import WorkerLine, WorkerWrote
from emulator.history.event_feed import EventFeed
from emulator.history.worker_logs import WorkerLogs
from emulator.workers import worker_output
from emulator.workers.worker_output import WorkerOutput


@pytest.fixture
def now(monkeypatch):
    """Real seconds, moved by the test."""
    seconds = [100.0]
    monkeypatch.setattr(worker_output, "real_seconds", lambda: seconds[0])
    return seconds


def texts(lines):
    return [line.text for line in lines]


def test_lines_are_told_when_they_are_complete(now):
    output = WorkerOutput("stdout")
    assert texts(output.feed(b"one\ntw")) == ["one"]
    assert texts(output.feed(b"o\r\n\nth")) == ["two", ""]
    assert output.close() == [WorkerLine("th", "stdout")]
    assert output.close() == []


def test_the_sdks_lines_say_their_job_and_level(now):
    line = json.dumps({"requestId": "j1", "message": "Started.", "level": "INFO"})
    about_none = json.dumps({"requestId": None, "message": "Jobs in queue: 1", "level": "WARN"})
    assert WorkerOutput("stdout").feed(f"{line}\n{about_none}\n".encode()) == [
        WorkerLine("Started.", "stdout", "j1", "INFO"),
        WorkerLine("Jobs in queue: 1", "stdout", None, "WARN"),
    ]


@pytest.mark.parametrize("text", ['{"requestId": "j1"}', '{"requestId" broken', '{"requestId": 1, "x": 2}'])
def test_what_only_looks_like_one_is_left_as_it_is(now, text):
    assert WorkerOutput("stdout").feed(text.encode() + b"\n") == [WorkerLine(text, "stdout")]


def test_bytes_that_are_no_text_are_shown_somehow(now):
    assert texts(WorkerOutput("stderr").feed(b"\xff\xfe ok\n")) == ["\ufffd\ufffd ok"]


def test_a_line_without_an_end_is_cut_and_says_so(now):
    output = WorkerOutput("stdout")
    [line] = output.feed(b"x" * 20_000)
    assert line.text == "x" * 16_384 + " [… 3616 bytes more]"


def test_too_many_lines_in_a_second_are_counted_and_not_shown(now):
    output = WorkerOutput("stdout")
    shown = [line for _ in range(100) for line in output.feed(b"0123456\n" * 100)]
    assert texts(shown[-1:]) == ["[… the rest of this second's output is not shown]"]
    assert len(shown) == 2_001
    now[0] += 1
    told, after = output.feed(b"after\n")
    assert told.text == f"[… {8 * 8_000} bytes were not shown]"
    assert after.text == "after"


def test_too_many_bytes_in_a_second_are_counted_and_not_shown(now):
    output = WorkerOutput("stdout")
    shown = [line for _ in range(64) for line in output.feed(b"x" * 65_535 + b"\n")]
    assert len(shown) <= 9
    [told] = output.close()
    assert "bytes were not shown" in told.text


def test_the_last_lines_are_kept_to_explain_the_end_with(now):
    output = WorkerOutput("stderr")
    output.feed(b"".join(b"%d\n" % n for n in range(100)))
    assert list(output.last_lines) == [str(n) for n in range(80, 100)]


# Keeping them


def logs_with(*lines):
    clock = VirtualClock()
    logs = WorkerLogs(clock, EventFeed(clock))
    for worker_id, job_id, text in lines:
        logs.add(WorkerWrote("ep", worker_id, job_id, WorkerLine(text, "stdout"), 0))
    return logs


def test_lines_are_found_by_worker_and_by_job():
    logs = logs_with(("w1", "j1", "a"), ("w2", "j2", "b"), ("w2", "j1", "c"), ("w1", None, "d"))
    assert texts(logs.of_worker("w1")) == ["a", "d"]
    assert texts(logs.of_job("j1")) == ["a", "c"]
    assert texts(logs.of_job("j1", after=1)) == ["c"]
    assert logs.of_worker("nobody") == []
    assert (logs.knows("w2"), logs.knows("w3")) == (True, False)


def test_only_the_newest_lines_of_the_newest_workers_are_kept():
    logs = logs_with(*[("w1", None, str(n)) for n in range(3_000)])
    assert texts(logs.of_worker("w1")) == [str(n) for n in range(2_000, 3_000)]
    logs = logs_with(*[("w1", None, "x" * 10_000) for _ in range(100)])
    assert len(logs.of_worker("w1")) == 26
    logs = logs_with(*[(f"w{n}", None, "x") for n in range(150)])
    assert [n for n in range(150) if logs.knows(f"w{n}")] == list(range(50, 150))


@pytest.mark.anyio
async def test_who_follows_gets_what_there_is_and_what_comes_until_the_end():
    logs, ended, got = logs_with(("w1", None, "a")), [], []
    clock = logs._clock

    async def follow():
        async for line in logs.follow(lambda after: logs.of_worker("w1", after), lambda: bool(ended)):
            got.extend([line.text])

    task = asyncio.get_running_loop().create_task(follow())
    await clock.settle()
    logs.add(WorkerWrote("ep", "w1", None, WorkerLine("b", "stdout"), 0))
    await clock.settle()
    assert got == ["a", "b"]
    ended.append(True)
    logs.add(WorkerWrote("ep", "w1", None, WorkerLine("c", "stdout"), 0))
    await task
    assert got == ["a", "b", "c"]
