"""What workers go on bringing of jobs that are no longer theirs: told once, however much of it comes."""

from __future__ import annotations

#: Of how many jobs and workers it is remembered; a worker has few jobs at a time.
_REMEMBERED_MAX = 1_000


class LatePieces:
    """Knows what has been told: which worker has brought what of which job."""

    def __init__(self) -> None:
        #: A dict, to forget the oldest.
        self._told: dict[tuple[str, str, str], None] = {}

    def is_news(self, worker_id: str, job_id: str, what: str) -> bool:
        """Whether this is the first of its kind; from now on it is not."""
        piece = (worker_id, job_id, what)
        if piece in self._told:
            return False
        self._told[piece] = None
        if len(self._told) > _REMEMBERED_MAX:
            del self._told[next(iter(self._told))]
        return True
