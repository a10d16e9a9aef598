"""The state file: SQLite in WAL mode. The only file of the product that knows its schema.

Every row has the stamp of the commit that wrote it and a checksum of its contents, and `tally` the sum of all
stamps: a file whose parts are of different moments (cut short, or copied while it was written) is told from
one that is whole.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

from emulator.errors import StateError
from emulator.ledger.records import ChunkRecord, DeliveryRecord, JobRecord, PartRecord, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Literal

    Sync = Literal["full", "normal", "off"]

#: `RPEM`: a file of ours, among all those of SQLite's.
APPLICATION_ID = 0x5250454D
_T = TypeVar("_T", RequestRecord, JobRecord, ChunkRecord, DeliveryRecord, PartRecord)


@dataclass(slots=True, frozen=True)
class _Table:
    """Where the records of a kind are; the last column is what is large."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def all_columns(self) -> str:
        return ", ".join(("stamp", "checksum", *self.columns))

    def upsert(self, count: int) -> str:
        """The statement that writes so many rows."""
        row = f"({', '.join('?' * (2 + len(self.columns)))})"
        changes = ", ".join(
            f"{name} = excluded.{name}"
            for name in ("stamp", "checksum", *self.columns)
            if name not in self.key
        )
        return (
            f"INSERT INTO {self.name} ({self.all_columns}) VALUES {', '.join([row] * count)}"
            f" ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changes}"
        )


_NUMBER = ("number",)
_REQUESTS = _Table(
    "request",
    (
        "number", "endpoint", "job_id", "webhook", "sync", "empty_input", "again_of", "submitted_ms",
        "execution_timeout_ms", "ttl_ms", "low_priority", "body",
    ),
    _NUMBER,
)  # fmt: skip
_JOBS = _Table(
    "job",
    (
        "number", "status", "queued_ms", "started_ms", "ended_ms", "delay_ms", "execution_ms", "worker_id",
        "held_elsewhere", "retries", "place", "error", "output",
    ),
    _NUMBER,
)  # fmt: skip
_CHUNKS = _Table("chunk", ("number", "job", "output"), _NUMBER)
_DELIVERIES = _Table(
    "webhook",
    ("number", "endpoint", "job_id", "url", "next_attempt", "due_ms", "attempts", "body"),
    _NUMBER,
)
_PARTS = _Table("part", ("kind", "name", "value"), ("kind", "name"))
_TABLES = (_REQUESTS, _JOBS, _CHUNKS, _PARTS, _DELIVERIES)

_COLUMNS_V1 = """
CREATE TABLE request (
    number INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, checksum INTEGER NOT NULL, endpoint TEXT NOT NULL,
    job_id TEXT NOT NULL, webhook TEXT, sync INTEGER NOT NULL, empty_input INTEGER NOT NULL, again_of TEXT,
    submitted_ms INTEGER NOT NULL, execution_timeout_ms INTEGER NOT NULL, ttl_ms INTEGER NOT NULL,
    low_priority INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE job (
    number INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, checksum INTEGER NOT NULL, status TEXT NOT NULL,
    queued_ms INTEGER NOT NULL, started_ms INTEGER, ended_ms INTEGER, delay_ms INTEGER, execution_ms INTEGER,
    worker_id TEXT, held_elsewhere INTEGER NOT NULL, retries INTEGER NOT NULL, place INTEGER NOT NULL,
    error BLOB, output BLOB
);
CREATE TABLE chunk (
    number INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, checksum INTEGER NOT NULL, job INTEGER NOT NULL,
    output BLOB NOT NULL
);
CREATE TABLE part (
    kind TEXT NOT NULL, name TEXT NOT NULL, stamp INTEGER NOT NULL, checksum INTEGER NOT NULL,
    value BLOB NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE tally (rows INTEGER NOT NULL, stamps INTEGER NOT NULL);
INSERT INTO tally VALUES (0, 0);
"""
_COLUMNS_V2 = """
CREATE TABLE webhook (
    number INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, checksum INTEGER NOT NULL, endpoint TEXT NOT NULL,
    job_id TEXT NOT NULL, url TEXT NOT NULL, next_attempt INTEGER NOT NULL, due_ms INTEGER NOT NULL,
    attempts BLOB NOT NULL, body BLOB NOT NULL
);
"""


def _tallied(*tables: str) -> str:
    """The triggers that keep the tally of these tables."""
    return "".join(
        f"CREATE TRIGGER {name}_added AFTER INSERT ON {name} BEGIN"
        f" UPDATE tally SET rows = rows + 1, stamps = stamps + new.stamp; END;"
        f"CREATE TRIGGER {name}_changed AFTER UPDATE ON {name} BEGIN"
        f" UPDATE tally SET stamps = stamps + new.stamp - old.stamp; END;"
        f"CREATE TRIGGER {name}_removed AFTER DELETE ON {name} BEGIN"
        f" UPDATE tally SET rows = rows - 1, stamps = stamps - old.stamp; END;"
        for name in tables
    )


#: What makes a file of each version of one of the version before; the first makes it of nothing.
_MIGRATIONS = (
    _COLUMNS_V1 + _tallied("request", "job", "chunk", "part"),
    _COLUMNS_V2 + _tallied("webhook"),
)
VERSION = len(_MIGRATIONS)

#: Rows of a statement: powers of two, so that few statements serve any number; at most as many values as any
#: build of SQLite takes.
_ROWS_MAX = 32
#: Free pages that are given back to the disk, at a time, once they are so many and a quarter of the file.
_FREE_PAGES = 512
_READ_AT_ONCE = 1_000


@dataclass(slots=True)
class Batch:
    """What goes into the file at once, or not at all."""

    requests: Sequence[RequestRecord] = ()
    jobs: Sequence[JobRecord] = ()
    #: The numbers of jobs whose request and state are to go.
    gone_jobs: Sequence[int] = ()
    chunks: Sequence[ChunkRecord] = ()
    gone_chunks: Sequence[int] = ()
    deliveries: Sequence[DeliveryRecord] = ()
    gone_deliveries: Sequence[int] = ()
    parts: Sequence[PartRecord] = ()
    #: Their kinds and names.
    gone_parts: Sequence[tuple[str, str]] = field(default=())


class Database:
    """An open state file. Used by one thread at a time."""

    def __init__(self, path: Path, sync: Sync = "normal", *, to_look: bool = False) -> None:
        """Open the file, and make it if there is none; `to_look` changes nothing and needs one that is there.

        :raises StateError: it cannot be opened, is none of ours, damaged, or of a later version.
        """
        self.path = path
        self._statements: dict[tuple[str, int], str] = {}
        if to_look and not path.is_file():
            raise StateError(f"there is no state file {path}")
        check_place(path)
        place = f"{path.absolute().as_uri()}?mode=ro" if to_look else path.absolute().as_uri()
        try:
            self._db = sqlite3.connect(
                place, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        except sqlite3.Error as error:
            raise self._refusal(error) from error
        try:
            self._open(sync, to_look=to_look)
        except sqlite3.Error as error:
            self._db.close()
            raise self._refusal(error) from error
        except BaseException:
            self._db.close()
            raise

    def _open(self, sync: Sync, *, to_look: bool) -> None:
        version = self._number("PRAGMA user_version")
        is_new = not self._number("SELECT count(*) FROM sqlite_schema")
        if not is_new and self._number("PRAGMA application_id") != APPLICATION_ID:
            raise StateError(
                f"the state file {self.path} is a database of another program: name another file"
            )
        if version > VERSION:
            raise StateError(
                f"the state file {self.path} is of a later runpod-emulator (its version is {version}, this"
                f" one knows {VERSION}): use that one, or name another file"
            )
        if is_new and to_look:
            raise StateError(f"the state file {self.path} is empty")
        if not to_look:
            if is_new:
                # Before anything is written.
                self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {sync.upper()}")
            self._db.execute("PRAGMA journal_size_limit = 16777216")
        if not is_new:
            self._check(version)
        if not to_look:
            self._migrate(version)
            if is_new:
                # Whatever becomes of the log from here on, the file is one of ours.
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _migrate(self, version: int) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        with self._transaction():
            for migration in _MIGRATIONS[version:]:
                for statement in _statements_of(migration):
                    self._db.execute(statement)
            # Written in any case, so that a file which cannot be is refused now.
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._db.execute("UPDATE tally SET rows = rows")

    def _check(self, version: int) -> None:
        """See that it is whole, and all of one moment.

        :raises StateError: it is not.
        """
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise self._damaged(str(found).splitlines()[-1])
        there = [table.name for table in _TABLES if version > 1 or table is not _DELIVERIES]
        sums = " UNION ALL ".join(
            f"SELECT count(*) AS c, coalesce(sum(stamp), 0) AS s FROM {name}" for name in there
        )
        rows, stamps = self._db.execute(f"SELECT sum(c), sum(s) FROM ({sums})").fetchone()
        if [(rows, stamps)] != self._db.execute("SELECT rows, stamps FROM tally").fetchall():
            raise self._damaged("its parts are of different moments")

    def close(self) -> None:
        """Close it, with all in one file and nothing free in it."""
        with suppress(sqlite3.Error):
            self._db.executescript("PRAGMA incremental_vacuum")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    # Writing

    def write(self, batch: Batch) -> None:
        """Write a batch; once this returns it survives what `sync` says.

        :raises StateError: it cannot be written; nothing of it is.
        """
        stamp = random.getrandbits(32)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            with self._transaction():
                self._remove(_JOBS, batch.gone_jobs)
                self._remove(_REQUESTS, batch.gone_jobs)
                self._remove(_CHUNKS, batch.gone_chunks)
                self._remove(_DELIVERIES, batch.gone_deliveries)
                for key in batch.gone_parts:
                    self._db.execute("DELETE FROM part WHERE kind = ? AND name = ?", key)
                self._put(_REQUESTS, stamp, batch.requests, _request_row)
                self._put(_JOBS, stamp, batch.jobs, _job_row)
                self._put(_CHUNKS, stamp, batch.chunks, _chunk_row)
                self._put(_DELIVERIES, stamp, batch.deliveries, _delivery_row)
                self._put(_PARTS, stamp, batch.parts, _part_row)
        except sqlite3.Error as error:
            raise StateError(f"the state file {self.path} cannot be written: {error}") from error
        if batch.gone_jobs or batch.gone_chunks:
            with suppress(sqlite3.Error):
                self._give_back()

    def clear(self) -> None:
        """Forget everything that is in it.

        :raises StateError: it cannot be written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            with self._transaction():
                for table in _TABLES:
                    self._db.execute(f"DELETE FROM {table.name}")
        except sqlite3.Error as error:
            raise StateError(f"the state file {self.path} cannot be written: {error}") from error

    def compact(self) -> None:
        """Give back all that is free.

        :raises StateError: there is no room to do it.
        """
        try:
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise StateError(f"the state file {self.path} cannot be written: {error}") from error

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    def _put(
        self, table: _Table, stamp: int, records: Sequence[_T], row_of: Callable[[int, _T], tuple[Any, ...]]
    ) -> None:
        # A statement for many rows: after each statement this thread waits for its turn again.
        start, left = 0, len(records)
        while left:
            count = min(_ROWS_MAX, 1 << (left.bit_length() - 1))
            values: list[Any] = []
            for record in records[start : start + count]:
                values += row_of(stamp, record)
            self._db.execute(self._statement(table, count), values)
            start, left = start + count, left - count

    def _remove(self, table: _Table, numbers: Sequence[int]) -> None:
        start, left = 0, len(numbers)
        while left:
            count = min(_ROWS_MAX, 1 << (left.bit_length() - 1))
            marks = ", ".join("?" * count)
            self._db.execute(
                f"DELETE FROM {table.name} WHERE number IN ({marks})", numbers[start : start + count]
            )
            start, left = start + count, left - count

    def _statement(self, table: _Table, count: int) -> str:
        found = self._statements.get((table.name, count))
        if found is None:
            found = self._statements[table.name, count] = table.upsert(count)
        return found

    def _give_back(self) -> None:
        # A script, as this pragma frees a page a step, and `execute` takes one step.
        free = self._number("PRAGMA freelist_count")
        if free > _FREE_PAGES and free * 4 > self._number("PRAGMA page_count"):
            self._db.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES})")

    # Reading

    def jobs(self) -> Iterator[tuple[RequestRecord, JobRecord]]:
        """The jobs, in order of submission.

        :raises StateError: the file is damaged.
        """
        count = self._number("SELECT count(*) FROM request")
        if count != self._number("SELECT count(*) FROM job JOIN request USING (number)"):
            raise self._damaged("there are jobs without a request, or without a state")
        columns = [f"request.{name}" for name in ("checksum", *_REQUESTS.columns)]
        columns += [f"job.{name}" for name in ("checksum", *_JOBS.columns)]
        split = 1 + len(_REQUESTS.columns)
        for row in self._rows(
            f"SELECT {', '.join(columns)} FROM request JOIN job USING (number) ORDER BY number"
        ):
            request = row[:split]
            state = row[split:]
            if request[0] != crc32(request[-1]) or state[0] != crc32(state[-1] or b"", len(state[-2] or b"")):
                raise self._damaged(f"job {request[3]} is not as it was written")
            number, endpoint, job_id, *more, body = request[1:]
            *before, place, error, output = state[1:]
            yield (
                RequestRecord(number, endpoint, job_id, body, *more),
                JobRecord._make((*before, output, error, place)),
            )

    def chunks(self) -> Iterator[ChunkRecord]:
        """The chunks of streams, in the order in which they came.

        :raises StateError: the file is damaged.
        """
        for record in self._records(_CHUNKS):
            yield ChunkRecord(*record)

    def deliveries(self) -> Iterator[DeliveryRecord]:
        """The webhooks that are not delivered yet, oldest first.

        :raises StateError: the file is damaged.
        """
        for number, endpoint, job_id, url, next_attempt, due_ms, attempts, body in self._records(_DELIVERIES):
            yield DeliveryRecord(number, endpoint, job_id, url, body, attempts, next_attempt, due_ms)

    def parts(self) -> Iterator[PartRecord]:
        """Everything else.

        :raises StateError: the file is damaged.
        """
        for record in self._records(_PARTS):
            yield PartRecord(*record)

    def last_numbers(self) -> tuple[int, int]:
        """The highest number that a job has, and a chunk."""
        return (
            self._number("SELECT coalesce(max(number), 0) FROM request"),
            self._number("SELECT coalesce(max(number), 0) FROM chunk"),
        )

    def _records(self, table: _Table) -> Iterator[tuple[Any, ...]]:
        order = "number" if table.key == _NUMBER else "kind, name"
        query = f"SELECT checksum, {', '.join(table.columns)} FROM {table.name} ORDER BY {order}"
        for checksum, *values in self._rows(query):
            if checksum != crc32(values[-1]):
                raise self._damaged(f"a {table.name} is not as it was written")
            yield tuple(values)

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            cursor = self._db.execute(query)
            while rows := cursor.fetchmany(_READ_AT_ONCE):
                yield from rows
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def _number(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    def _refusal(self, error: sqlite3.Error) -> StateError:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_NOTADB":
            return StateError(f"the state file {self.path} is no state file: name another")
        if name.startswith("SQLITE_CORRUPT") or isinstance(error, sqlite3.DataError):
            return self._damaged(str(error))
        if name == "SQLITE_FULL":
            return StateError(f"the state file {self.path} cannot be written: the disk is full: make room")
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return StateError(
                f"the state file {self.path} cannot be opened to be written ({error}): see who may write"
                " the file and its folder"
            )
        return StateError(f"the state file {self.path} cannot be used: {error}")

    def _damaged(self, what: str) -> StateError:
        return StateError(
            f"the state file {self.path} is damaged ({what}): move it away to start anew, or put a copy in"
            " its place"
        )


def check_place(path: Path) -> None:
    """See that a state file can be at this path.

    :raises StateError: it cannot.
    """
    if path.is_dir():
        raise StateError(f"the state file {path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise StateError(f"the state file {path} cannot be made: there is no folder {path.parent}")


class _Transaction:
    """All that happens in its block, or nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")


def _statements_of(script: str) -> Iterator[str]:
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _request_row(stamp: int, record: RequestRecord) -> tuple[Any, ...]:
    number, endpoint, job_id, body, *more = record
    return (stamp, crc32(body), number, endpoint, job_id, *more, body)


def _job_row(stamp: int, record: JobRecord) -> tuple[Any, ...]:
    *before, output, error, place = record
    # The error's length goes in as where the checksum begins.
    return (stamp, crc32(output or b"", len(error or b"")), *before, place, error, output)


def _chunk_row(stamp: int, record: ChunkRecord) -> tuple[Any, ...]:
    return (stamp, crc32(record.output), *record)


def _delivery_row(stamp: int, record: DeliveryRecord) -> tuple[Any, ...]:
    number, endpoint, job_id, url, body, attempts, next_attempt, due_ms = record
    return (
        stamp, crc32(body), number, endpoint, job_id, url, next_attempt, due_ms, attempts, body,
    )  # fmt: skip


def _part_row(stamp: int, record: PartRecord) -> tuple[Any, ...]:
    return (stamp, crc32(record.value), *record)
