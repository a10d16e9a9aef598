"""Who keeps deliveries, so that they outlive the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from emulator.webhooks.deliveries import Delivery


class DeliveryKeeper(Protocol):
    """Hears of each delivery, and says when what it has heard is on disk."""

    def changed(self, delivery: Delivery) -> None:
        """A delivery is new, or its next attempt is to come."""

    def gone(self, delivery: Delivery) -> None:
        """No attempt will follow."""

    async def kept(self) -> None:
        """Return when all that has happened so far is on disk.

        :raises NotKept: it cannot be written.
        """

    def has_refused(self, job_id: str) -> bool:
        """Whether the job had to be taken back: nobody is to hear of its end."""
