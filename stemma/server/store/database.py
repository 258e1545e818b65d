"""The SQLite database of a server's state: in memory, or one file that a second server cannot open at the same time.

A write is one transaction. The file has a write-ahead log, so the end of the process, whenever it comes, loses none;
the end of the machine may lose the last moments, and never leaves a half.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stemma.runtime.errors import InvalidRequest

NAME = "state.sqlite"
APPLICATION = 0x5354454D
VERSION = 1
"""Of the schema. A file of an older version is brought up to date here, step by step; there is none yet."""

SCHEMA = """
CREATE TABLE objects (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,            -- Unix time, NULL for never
    touched INTEGER NOT NULL,   -- the order in which objects were last written
    is_open INTEGER NOT NULL,   -- somebody is at work on it
    begins INTEGER,             -- an item: where the object's own path begins, behind it
    ends INTEGER,               -- an item: the last of its path
    size INTEGER NOT NULL,      -- of value and contents
    value BLOB NOT NULL,        -- JSON
    UNIQUE (tenant, id)
);
CREATE INDEX objects_by_kind ON objects (tenant, kind, number);
CREATE INDEX objects_by_use ON objects (tenant, touched);
CREATE INDEX objects_by_end ON objects (expires) WHERE expires IS NOT NULL;
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    parent INTEGER,             -- the item before it
    uses INTEGER NOT NULL,      -- items behind it, and objects whose path ends in it
    size INTEGER NOT NULL,
    value BLOB NOT NULL         -- JSON
);
CREATE INDEX items_by_id ON items (tenant, id);
CREATE TABLE contents (
    object INTEGER NOT NULL,
    place INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (object, place)
) WITHOUT ROWID;
"""


class Database:
    """Any thread may use it; one at a time does."""

    def __init__(self, folder: Path | None) -> None:
        """Raises InvalidRequest for a file that is not this server's to use."""
        self._lock = threading.RLock()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        where = ":memory:" if folder is None else str(folder / NAME)
        self._connection = sqlite3.connect(where, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise _refused(f"{where} is in use by another server, or cannot be written ({error})") from error
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise _refused(f"{where} is damaged, or something else ({error}); move it away") from error

    def _open(self) -> None:
        run = self._connection.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("PRAGMA secure_delete = ON")
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise sqlite3.DatabaseError(f"it is of a newer version, {version}")
            if version == 0:
                for statement in SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside, or nothing of it."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A look that sees no half of a write."""
        with self._lock:
            yield self._connection

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(f"the server's state cannot be kept: {message}", "cache_folder")
