"""Threads do not survive a fork. What depends on some remembers the process it was made in, and says so in another one,
where waiting for an answer, or for a lock that a lost thread had, would never end."""

from __future__ import annotations

import os

from stemma.runtime.errors import EngineForked


class ForkGuard:
    """The process in which something was made."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is it, and not a child that was forked from it."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Raises EngineForked in another process."""
        if not self.is_here:
            raise EngineForked(
                f"this was made in process {self._process}, and its threads do not exist in its fork {os.getpid()}: "
                "make the engine or the connection in the child, or start children by 'spawn' or 'forkserver'"
            )
