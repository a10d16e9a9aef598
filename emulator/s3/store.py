"""The local S3 store, from the emulator's side: started, asked, and ended with it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import ConfigError, EmulatorError

if TYPE_CHECKING:
    from asyncio.subprocess import Process

log = logging.getLogger("emulator")

_BUCKET = "runpod"
_SERVER = Path(__file__).with_name("server.py")
_OBJECTS_PATH = "/_emulator/objects"
_ASK_TIMEOUT_S = 30


class StoreGone(EmulatorError):
    """the S3 store is not running: start the emulator again"""


class LocalStore:
    """A bucket in the memory of a process of its own, with keys that are good for this session.

    While it runs, the variables of workers (`BUCKET_ENDPOINT_URL` and the rest) are the emulator's own too,
    so that workers of all kinds find them.
    """

    def __init__(self) -> None:
        #: Where clients find it, once it runs.
        self.url = ""
        #: The bucket that is there from the start.
        self.bucket = _BUCKET
        self._access_key = "LOCAL" + secrets.token_hex(8).upper()
        self._secret = secrets.token_urlsafe(30)
        self._process: Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._variables_before: dict[str, str | None] = {}

    @property
    def process_id(self) -> int | None:
        """The number of its process; None when there is none."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    @property
    def variables(self) -> dict[str, str]:
        """What workers are given: the SDK's variables, and the bucket's name."""
        return {
            "BUCKET_ENDPOINT_URL": self.url,
            "BUCKET_ACCESS_KEY_ID": self._access_key,
            "BUCKET_SECRET_ACCESS_KEY": self._secret,
            "BUCKET_NAME": self.bucket,
        }

    @property
    def s3_config(self) -> dict[str, str]:
        """The `s3Config` of a request whose files are to go there (wire.md 2)."""
        return {
            "accessId": self._access_key,
            "accessSecret": self._secret,
            "bucketName": self.bucket,
            "endpointUrl": self.url,
        }

    async def start(self) -> None:
        """Start it, and hand its variables to the workers to come.

        :raises ConfigError: the extra `s3` is not installed, or it cannot be started.
        """
        if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
            raise ConfigError("the S3 store needs an extra: pip install 'runpod-emulator[s3]'")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            # Its folder is no place to import from.
            "-P",
            str(_SERVER),
            "--port=0",
            "--until-eof",
            env={**os.environ, **self.variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        first_line = await self._process.stdout.readline()
        if not first_line:
            told = (await self._process.stderr.read()).decode("utf-8", "replace").strip()
            raise ConfigError(f"the S3 store does not start: {told.rpartition(chr(10))[2]}")
        self.url = f"http://127.0.0.1:{json.loads(first_line)['port']}"
        for name, value in self.variables.items():
            self._variables_before[name] = os.environ.get(name)
            os.environ[name] = value
        self._watching = asyncio.create_task(self._watch(self._process))

    async def stop(self) -> None:
        """End it; its objects are gone."""
        for name, value in self._variables_before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._variables_before.clear()
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def objects(self) -> list[dict[str, Any]]:
        """All objects of all buckets.

        :raises StoreGone: it has ended.
        """
        return await self._ask("GET")

    async def clear(self) -> int:
        """Remove all objects; returns how many there were.

        :raises StoreGone: it has ended.
        """
        return len(await self._ask("DELETE"))

    async def _ask(self, method: str) -> list[dict[str, Any]]:
        # It takes a while to import.
        import httpx

        try:
            async with httpx.AsyncClient(trust_env=False, timeout=_ASK_TIMEOUT_S) as client:
                answer = await client.request(
                    method, self.url + _OBJECTS_PATH, headers={"authorization": self._secret}
                )
        except httpx.TransportError as error:
            raise StoreGone from error
        objects: list[dict[str, Any]] = answer.raise_for_status().json()
        return objects

    async def _watch(self, process: Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            log.debug("s3: %s", line.decode("utf-8", "replace").rstrip())
        code = await process.wait()
        log.warning("the S3 store has ended (exit code %d): uploads fail; start the emulator again", code)
