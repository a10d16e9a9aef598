"""Job ids as production makes them (wire.md 2)."""

from __future__ import annotations

import random


class JobIds:
    """Makes ids that no other emulator makes."""

    def __init__(self) -> None:
        # A generator of its own: a test that seeds the module's must not make ids repeat. And one system
        # call for all ids, where uuid.uuid4 makes one for each.
        self._random = random.Random()

    def new(self, *, sync: bool) -> str:
        """An id: a version 4 UUID and `-u1`; `sync-` before it for a job of /runsync."""
        digits = f"{self._random.getrandbits(128):032x}"
        variant = "89ab"[int(digits[16], 16) & 3]
        uuid = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        return f"sync-{uuid}-u1" if sync else f"{uuid}-u1"
