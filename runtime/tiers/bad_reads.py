"""Bytes that a disk cannot give back: of one record they are a miss, of several in a row it is the disk that fails."""

from __future__ import annotations

import errno

MOST_IN_A_ROW = 3
OF_BYTES = {getattr(errno, name) for name in ("EIO", "EBADMSG", "ENODATA", "EUCLEAN") if hasattr(errno, name)}
"""What is wrong is at this place of the disk, as far as can be told from one read. Others are of the whole of it."""
UNREADABLE = b""
"""In place of a record: fails every check, so that it is forgotten, and written anew when it is used again."""


class BadReads:
    """Of one tier. Any thread: that a read is counted once too often or too seldom does no harm."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def fine(self) -> None:
        """A record was read."""
        self._in_a_row = 0

    def failed(self, error: OSError) -> bool:
        """Whether this was the record's own fault."""
        self._in_a_row += 1
        return error.errno in OF_BYTES and self._in_a_row <= MOST_IN_A_ROW
