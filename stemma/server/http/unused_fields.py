"""Fields of requests that had no effect, told: in a header of the answer, and once each in the log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

HEADER = b"stemma-unused-fields"
MAX_NAMES = 32
MAX_LOGGED = 1024
UNPRINTABLE = re.compile(r"[^\w.\[\]-]", re.ASCII)

log = logging.getLogger("stemma.server")


def header(names: Iterable[str]) -> tuple[bytes, bytes]:
    """The header that names them; names are the client's, so only plain characters of them are told."""
    told = [_plain(name) for name in names]
    rest = [f"and {len(told) - MAX_NAMES} more"] if len(told) > MAX_NAMES else []
    return HEADER, ", ".join(told[:MAX_NAMES] + rest).encode("ascii")


def _plain(name: str) -> str:
    """A name that a header can end in."""
    return UNPRINTABLE.sub("?", name[:64]) or "?"


class UnusedFields:
    """What was logged already. Written on the event loop alone."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()

    def note(self, path: str, names: Iterable[str]) -> None:
        """Log those that are new at this endpoint; after so many, none."""
        for name in names:
            if len(self._logged) < MAX_LOGGED and (path, name) not in self._logged:
                self._logged.add((path, name))
                log.info("%s: %s has no effect", path, _plain(name))
