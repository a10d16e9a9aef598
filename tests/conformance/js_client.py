"""The JavaScript SDK in a node process of its own (client.mjs), driven from here."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.conformance.served import HERE, environment
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class JSError(Exception):
    """The SDK threw."""

    def __init__(self, thrown: dict[str, Any]) -> None:
        super().__init__(f"{thrown['name']}: {thrown['message']}")
        #: Of the HTTP answer, if it was one that made the SDK throw.
        self.status: int | None = thrown.get("status")
        self.body: Any = thrown.get("body")


class NodeProcess:
    """Asks client.mjs for things; several may be under way at once."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._numbers = count(1)
        self._answers: dict[int, Future[Any]] = {}

    def ask(self, **request: object) -> Future[Any]:
        """The answer to a request, when it comes."""
        assert self._process.stdin is not None
        number = next(self._numbers)
        answer = self._answers[number] = Future()
        self._process.stdin.write(json.dumps({"id": number, **request}) + "\n")
        self._process.stdin.flush()
        return answer

    def read_answers(self) -> None:
        """Hand out the answers until the process ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reply = json.loads(line)
            answer = self._answers.pop(reply["id"])
            if "error" in reply:
                answer.set_exception(JSError(reply["error"]))
            else:
                answer.set_result(reply.get("value"))
        for answer in self._answers.values():
            answer.set_exception(AssertionError("the node process has ended: see its standard error"))


class JSClient:
    """Calls the methods of the SDK's endpoints."""

    def __init__(self, node_process: NodeProcess, base_url: str, key: str) -> None:
        self._node = node_process
        self._options = {"baseUrl": base_url, "key": key}

    def call(self, endpoint: str, method: str, *args: object, **options: object) -> Any:
        """What a method resolves to; `options` may bring another `key`.

        :raises JSError: it throws.
        """
        return self.begin(endpoint, method, *args, **options).result(PATIENCE_S)

    def begin(self, endpoint: str, method: str, *args: object, **options: object) -> Future[Any]:
        """A call that may take a while, under way."""
        return self._node.ask(**{**self._options, **options}, endpoint=endpoint, method=method, args=args)

    def stream(self, endpoint: str, *args: object) -> Iterator[Any]:
        """What the SDK's stream generator yields."""
        name = uuid4().hex
        self._node.ask(**self._options, stream=name, endpoint=endpoint, args=args).result(PATIENCE_S)
        while not (step := self._node.ask(next=name).result(PATIENCE_S)).get("done"):
            yield step["value"]

    def methods(self) -> set[str]:
        """The names of all methods an endpoint has."""
        names = self._node.ask(**self._options, methods=True, endpoint="any").result(PATIENCE_S)
        return set(names) - {"constructor"}


def node() -> str:
    """The command that runs JavaScript, once the SDK is there for it."""
    path = shutil.which("node")
    if path is None:
        pytest.fail("node is not installed: install Node.js 20 or newer, then run `make test`")
    if not (HERE / "node_modules" / "runpod-sdk").is_dir():
        pytest.fail("the JavaScript SDK is not installed: run `make test`, which installs it")
    return path


@contextmanager
def node_process(home: Path) -> Iterator[NodeProcess]:
    """The SDK in a process of its own."""
    with subprocess.Popen(
        [node(), "client.mjs"],
        cwd=HERE,
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        asked = NodeProcess(process)
        reader = Thread(target=asked.read_answers)
        reader.start()
        try:
            yield asked
        finally:
            process.kill()
            reader.join()
