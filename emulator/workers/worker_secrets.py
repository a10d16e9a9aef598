"""How a worker that was started here proves that it is itself: its id is known to others."""

from __future__ import annotations

import hmac
import secrets

#: Of the secret, what is enough.
_CHARACTERS = 32


class WorkerSecrets:
    """Makes each worker's secret, and knows it again, also when the worker is gone: nothing is kept."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, worker_id: str) -> str:
        """The worker's secret."""
        return hmac.digest(self._key, worker_id.encode(), "sha256").hex()[:_CHARACTERS]

    def proves(self, worker_id: str, secret: str) -> bool:
        """Whether this is the worker's secret."""
        return hmac.compare_digest(self.of(worker_id).encode(), secret.encode())
