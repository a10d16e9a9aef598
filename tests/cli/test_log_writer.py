"""The log of `serve`: all of it and in order, however it is read, and nobody waits for whoever reads it."""

import json
import logging
import os
import threading
from contextlib import contextmanager

import pytest

from emulator.cli.log_format import LogFormat, configure_logging
from emulator.cli.log_writer import LogWriter
from emulator.history.quick_log import quick_log
from tests.limits import PATIENCE_S

LOG = logging.getLogger("emulator")
OF_A_ROOM = logging.getLogger("emulator.test")


@contextmanager
def log_to(file, log_format=LogFormat.TEXT):
    """The log as `serve` writes it, into a file."""
    loggers = [LOG, logging.getLogger("uvicorn")]
    before = [(each, each.handlers[:], each.propagate, each.level) for each in loggers]
    writer = LogWriter(file)
    configure_logging(log_format, "info", writer)
    try:
        yield writer
    finally:
        for each, each.handlers, each.propagate, level in before:
            each.setLevel(level)


def written(path):
    return path.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log"


def test_lines_of_both_ways_are_written_alike_and_in_order(path):
    with path.open("wb") as file, log_to(file.fileno()) as writer:
        for number in range(500):
            quick_log(OF_A_ROOM, logging.INFO, f"quick {number}")
            LOG.warning("slow %d", number)
        writer.flush()
    lines = written(path)
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        text for number in range(500) for text in (f"INFO    quick {number}", f"WARNING slow {number}")
    ]
    assert [line[:12] for line in lines] == sorted(line[:12] for line in lines)


def test_of_what_many_threads_log_nothing_is_lost(path):
    def log_some(name):
        for number in range(1_000):
            quick_log(LOG, logging.INFO, f"{name} {number}")

    with path.open("wb") as file, log_to(file.fileno()) as writer:
        threads = [threading.Thread(target=log_some, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        writer.flush()
    told = [line.split()[2:] for line in written(path)]
    for name in "abcd":
        assert [number for whose, number in told if whose == name] == [str(number) for number in range(1_000)]


def test_what_a_reader_does_not_take_is_dropped_counted_and_told():
    reading, writing = os.pipe()
    with log_to(writing) as writer, os.fdopen(reading, "rb") as reader:
        for number in range(30_000):
            quick_log(LOG, logging.INFO, f"first {number}")
        lines = []
        # What there was room for comes once somebody reads; then there is room again.
        while len(lines) < 20_000:
            lines.append(reader.readline())
        quick_log(LOG, logging.INFO, "last")
        while b"last" not in (line := reader.readline()):
            lines.append(line)
        writer.flush()
        os.close(writing)
    expected, times_told = 0, 0
    for line in lines:
        text = line.split(maxsplit=2)[2].decode().strip()
        if text.startswith("first"):
            assert text == f"first {expected}"
            expected += 1
        else:
            # Each time that there is room again, it says what is missing there.
            dropped = int(text.split()[0])
            assert text == (
                f"{dropped} lines of the log were dropped here: nobody read them as fast as they came"
            )
            expected += dropped
            times_told += 1
    assert expected == 30_000
    assert times_told


def test_what_was_dropped_is_told_even_where_there_is_room_for_a_short_line_only():
    mega = 1024 * 1024
    reading, writing = os.pipe()
    with log_to(writing) as writer, os.fdopen(reading, "rb") as reader:
        quick_log(LOG, logging.INFO, "a" * mega)
        reader.read(1)
        # The first is being written now. Eight of its size may wait.
        for size in (*[mega] * 7, mega - 40, 41, 1):
            quick_log(LOG, logging.INFO, "b" * size)
        lines = []
        while not lines or not lines[-1].endswith(b" b\n"):
            lines.append(reader.readline())
        writer.flush()
        os.close(writing)
    assert b" 1 lines of the log were dropped here" in lines[-2]


def test_what_a_terminal_obeys_is_shown_on_the_short_way_too(path):
    with path.open("wb") as file, log_to(file.fileno()) as writer:
        quick_log(LOG, logging.INFO, "GET /x\n22:00:00.000 ERROR   forged\x1b[2J\x9b31m\u202e → 404")
        writer.flush()
    first, second = written(path)
    assert first.endswith("INFO    GET /x")
    assert second == "    22:00:00.000 ERROR   forged\\x1b[2J\\x9b31m\\u202e → 404"


def test_a_program_gets_the_fields_on_both_ways(path):
    fields = {"event": "job", "job_id": "j", "worker_id": None}
    with path.open("wb") as file, log_to(file.fileno(), LogFormat.JSON) as writer:
        quick_log(LOG, logging.INFO, "told", lambda: fields)
        LOG.info("told", extra={"fields": fields})
        writer.flush()
    quick, slow = (json.loads(line) for line in written(path))
    assert quick.pop("ts") <= slow.pop("ts")
    assert quick == slow == {"level": "info", "event": "job", "job_id": "j", "message": "told"}


def test_another_handler_hears_of_quick_lines_too(path, caplog):
    with path.open("wb") as file, log_to(file.fileno()) as writer:
        LOG.addHandler(caplog.handler)
        quick_log(LOG, logging.INFO, "told to both", lambda: {"event": "job"})
        writer.flush()
    assert [record.getMessage() for record in caplog.records] == ["told to both"]
    assert "told to both" in path.read_text()


def test_a_line_that_cannot_be_written_does_not_end_the_log(path):
    endless = {}
    endless["itself"] = endless
    with path.open("wb") as file, log_to(file.fileno(), LogFormat.JSON) as writer:
        quick_log(LOG, logging.INFO, "told", lambda: endless)
        writer.flush()
        quick_log(LOG, logging.INFO, "told later")
        writer.flush()
    first, second = written(path)
    assert first == "1 lines of the log could not be laid out: ValueError"
    assert json.loads(second)["message"] == "told later"
