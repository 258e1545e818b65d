"""The errors of the prefix cache; each says what to do. Raising one leaves the cache as it was."""


class OutOfBlocks(Exception):
    """A pool cannot give that many blocks (or slots), even after evicting everything that nobody holds."""

    def __init__(self, needed: int, available: int, what: str = "blocks") -> None:
        super().__init__(
            f"needs {needed} {what}, {available} are free or can be evicted: release or preempt a lease, "
            "or make the cache larger"
        )
        self.needed = needed
        self.available = available


class LeaseError(ValueError):
    """A lease was used out of order: written without room, used after its release."""


class PinError(ValueError):
    """A pin would go over the budget for pins; nothing is retained for it."""


class SnapshotError(ValueError):
    """A snapshot is corrupt, of another version or of another cache; the cache stays as it is: start empty."""
