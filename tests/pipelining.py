"""Thousands of jobs in a moment: many requests in one write, on one connection."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterable

_AT_A_TIME = 100


def submit_many(url: str, inputs: Iterable[object]) -> None:
    """POST each of the inputs to `url`, an endpoint's /run or /runsync, which has to take all of them."""
    where = urlsplit(url)
    requests = [_request(where.path, each) for each in inputs]
    with socket.create_connection((where.hostname or "", where.port or 80), PATIENCE_S) as connection:
        for begin in range(0, len(requests), _AT_A_TIME):
            batch = requests[begin : begin + _AT_A_TIME]
            connection.sendall(b"".join(batch))
            answers = b""
            while answers.count(b"HTTP/1.1 ") < len(batch) or not answers.endswith(b"}"):
                part = connection.recv(1 << 20)
                assert part, answers[-500:]
                answers += part
            assert answers.count(b"HTTP/1.1 200 ") == len(batch), answers[-500:]


def _request(path: str, given: object) -> bytes:
    body = json.dumps({"input": given}).encode()
    return (
        b"POST %b HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer any\r\ncontent-length: %d\r\n\r\n%b"
        % (path.encode(), len(body), body)
    )
