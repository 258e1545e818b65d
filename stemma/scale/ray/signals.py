"""SIGINT and SIGTERM, which are noted, and looked at where nothing is torn by it.

No handler raises: what is raised in the middle of a fork is lost by Python, with locks held, and Ray's own code does
not stand it everywhere.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from signal import signal as set_handler
from types import FrameType
from typing import Any

ASKING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Those that came to this process. While it starts a second one ends it at once, by the system's own means, and so
    Ray's processes that it started, which the system ends with it. All is called in the main thread."""

    def __init__(self) -> None:
        self.told: SimpleQueue[int | None] = SimpleQueue()  # which a signal may be put into at any place
        self._starts = True

    def listen(self) -> None:
        """From now on; again, wherever somebody else may have taken them."""
        ends_at_once = self._starts and not self.told.empty()
        for number in ASKING:
            set_handler(number, signal.SIG_DFL if ends_at_once else self._tell)

    def started(self) -> None:
        """From now on all are noted. Raises SystemExit where one was before."""
        self.look()
        self._starts = False
        self.listen()

    def look(self) -> None:
        """Raises SystemExit where one came before all had started, with the status of who was ended by it."""
        if self._starts and not self.told.empty():
            raise SystemExit(128 + (self.told.get() or 0))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around `ray.init`, which takes SIGTERM: by Python's means, for a handler that raises, which is kept from it;
        and by the system's, from which it is taken back."""

        def others(number: int, handler: Any) -> Any:
            return signal.getsignal(number) if number == signal.SIGTERM else set_handler(number, handler)

        signal.signal = others  # type: ignore[assignment]
        try:
            yield
        finally:
            signal.signal = set_handler
            self.listen()

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self.told.put(number)
        self.listen()
