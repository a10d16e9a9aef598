"""Emulators that the SDKs' tests share, as new for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.conformance.gate import Gate
from tests.conformance.served import HERE, KEY, Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = ("--config", str(HERE / "emulator.toml"), "--api-key", KEY)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator is on this machine, wherever the proxy of the environment is."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="session")
def ticking_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("ticking"), *CONFIG) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def frozen_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("frozen"), *CONFIG, "--clock", "frozen") as emulator:
        yield emulator


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Served:
    """An emulator on which nothing has happened; tests marked `@on_frozen_clock` move its time."""
    kind = getattr(request, "param", "ticking")
    emulator: Served = request.getfixturevalue(f"{kind}_emulator")
    emulator.reset()
    return emulator


@pytest.fixture
def gate(emulator: Served) -> Gate:
    return Gate(emulator, uuid4().hex)
