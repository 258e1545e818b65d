"""Objects by tenant and id: bounded for each tenant, with an end if they have one, and nobody else's to see."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stemma.server.store import paths
from stemma.server.store.database import Database
from stemma.server.store.records import Gone, Kept, Limits, NewObject, NoRoom, Page, Place, Value

FILES = ("file", "batch")
COLUMNS = "number, id, kind, created, is_open, begins, ends, value"
ROW = paths.BYTES_OF_A_ROW
PURGE_SECONDS = 60.0


@dataclass(slots=True)
class Room:
    """What a tenant has of one sort."""

    num_objects: int = 0
    num_bytes: int = 0


class Store:
    """Any thread may use it."""

    def __init__(self, folder: Path | None, limits: Limits) -> None:
        """folder: where its file is; None keeps it in memory. Raises InvalidRequest for a file that is of no use."""
        self._database = Database(folder)
        self._limits = limits
        self._rooms: defaultdict[tuple[str, bool], Room] = defaultdict(Room)
        self._purged_at = -PURGE_SECONDS
        with self._database.reading() as connection:
            self._count(connection)
            (self._last,) = connection.execute("SELECT coalesce(max(touched), 0) FROM objects").fetchone()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def is_full(self, tenant: str) -> bool:
        """Whether the tenant's files and batches have all that they may."""
        return self._rooms[tenant, True].num_bytes >= self._limits.file_bytes

    def room(self, tenant: str, kind: str) -> Room:
        """What the tenant has of this sort of objects."""
        return self._rooms[tenant, kind in FILES]

    # Writing -------------------------------------------------------------------------------------------------
    def add(self, tenant: str, new: NewObject) -> Kept:
        """Keep an object. Raises NoRoom, or Gone if what its path goes on from is not there any more."""
        value, size = msgspec.json.encode(new.value), ROW
        size += len(value) + sum(len(data) + ROW for data in new.contents)
        with self._writing() as connection:
            self._purge(connection)
            if new.is_bounded:
                self._make_room(tenant, new.kind, size)
            if not paths.exists(connection, new.after):
                raise Gone
            last, of_items = paths.extend(connection, tenant, new.after, new.items)
            paths.take(connection, last)
            row = (
                tenant, new.id, new.kind, new.created, new.expires, self._next(), new.is_open, last, last,
                size, value,
            )  # fmt: skip
            number = connection.execute(
                "INSERT INTO objects (tenant, id, kind, created, expires, touched, is_open, begins, ends, size, value) "
                f"VALUES ({', '.join('?' * len(row))})", row,
            ).lastrowid  # fmt: skip
            assert number is not None
            rows = ((number, place, data) for place, data in enumerate(new.contents))
            connection.executemany("INSERT INTO contents VALUES (?, ?, ?)", rows)
            self._account(tenant, new.kind, 1, size + of_items)
            self._let_go(connection, tenant, spared=number)
        return Kept(number, new.id, new.kind, new.created, new.is_open, last, last, new.value)

    def change(
        self, tenant: str, kind: str, name: str, changed: Callable[[Value], Value], *,
        is_open: bool | None = None, expires: int | None = None, without_contents: bool = False,
    ) -> Kept | None:  # fmt: skip
        """Replace an object's value; is_open and expires if they are given. None if it is not there."""
        with self._writing() as connection:
            found = self._find(connection, tenant, kind, name)
            if found is None:
                return None
            self._set(connection, tenant, found, changed(found.value))
            if is_open is not None:
                connection.execute("UPDATE objects SET is_open = ? WHERE number = ?", (is_open, found.number))
            if without_contents:
                self._clear(connection, tenant, found)
            if expires is not None:
                connection.execute("UPDATE objects SET expires = ? WHERE number = ?", (expires, found.number))
            return self._find(connection, tenant, kind, name)

    def finish(
        self, tenant: str, kind: str, name: str, value: Value, items: Sequence[Value], contents: Sequence[bytes] = ()
    ) -> Kept | None:
        """The end of an object that was open: what it says now, what it said, and what belongs to it."""
        with self._writing() as connection:
            found = self._find(connection, tenant, kind, name)
            if found is None:
                return None
            self._lengthen(connection, tenant, found, items)
            self._set(connection, tenant, found, value)
            for place, data in enumerate(contents):
                self._put(connection, tenant, found, place, data)
            connection.execute("UPDATE objects SET is_open = 0 WHERE number = ?", (found.number,))
            self._let_go(connection, tenant, spared=found.number)
            return self._find(connection, tenant, kind, name)

    def append(
        self, tenant: str, kind: str, name: str, items: Sequence[Value], *, after: int | None, last: int | None
    ) -> Kept | None:
        """Items at the end of an object's path. If it still ends in `after`, behind which the same items stand in
        another path, up to `last`, then it shares that path. None if the object is not there."""
        with self._writing() as connection:
            found = self._find(connection, tenant, kind, name)
            if found is None:
                return None
            if last is not None and found.ends == after and paths.exists(connection, last):
                self._end_in(connection, tenant, found, last)
            else:
                self._lengthen(connection, tenant, found, items)
            self._touch(connection, found)
            self._let_go(connection, tenant, spared=found.number)
            return self._find(connection, tenant, kind, name)

    def cut_out(self, tenant: str, kind: str, name: str, item: str) -> Kept | None:
        """An object's path without one of its items; what stood behind it is copied. None if either is not there."""
        with self._writing() as connection:
            found = self._find(connection, tenant, kind, name)
            path = paths.path(connection, found.ends) if found is not None else []
            at = next((index for index, one in enumerate(path) if one.value["id"] == item), None)
            if found is None or at is None:
                return None
            before = path[at - 1].number if at else None
            rest = [one.value for one in path[at + 1 :]]
            last, size = paths.extend(connection, tenant, before, rest)
            self._account(tenant, kind, 0, size)
            self._end_in(connection, tenant, found, last)
            return self._find(connection, tenant, kind, name)

    def put_content(
        self, tenant: str, kind: str, name: str, place: int, data: bytes, changed: Callable[[Value], Value]
    ) -> bool:
        """What belongs to an object at a place that has nothing yet, and what the object says with it: both or
        neither. False if the object is not there, or the place was taken."""
        with self._writing() as connection:
            found = self._find(connection, tenant, kind, name)
            query = "SELECT 1 FROM contents WHERE object = ? AND place = ?"
            if found is None or connection.execute(query, (found.number, place)).fetchone() is not None:
                return False
            self._put(connection, tenant, found, place, data)
            self._set(connection, tenant, found, changed(found.value))
        return True

    def delete(self, tenant: str, kind: str, name: str) -> bool:
        """Whether there was one."""
        with self._writing() as connection:
            found = self._find(connection, tenant, kind, name)
            if found is not None:
                self._remove(connection, tenant, found)
        return found is not None

    # Reading -------------------------------------------------------------------------------------------------
    def get(self, tenant: str, kind: str, name: str) -> Kept | None:
        """An object that has not expired."""
        with self._database.reading() as connection:
            return self._find(connection, tenant, kind, name)

    def with_path(self, tenant: str, kind: str, name: str) -> tuple[Kept, list[Value]] | None:
        """An object that has not expired, and the items of its path, both of one moment."""
        with self._database.reading() as connection:
            found = self._find(connection, tenant, kind, name)
            return None if found is None else (found, [item.value for item in paths.path(connection, found.ends)])

    def page(self, tenant: str, kind: str, place: Place, matches: Callable[[Value], bool] = lambda value: True) -> Page:
        """Objects in the order in which they were made. After one that is not there, there is nothing."""
        order, sign = ("DESC", "<") if place.is_descending else ("ASC", ">")
        query = f"SELECT {COLUMNS} FROM objects WHERE tenant = ? AND kind = ? AND {ALIVE}"
        given: list[str | int] = [tenant, kind, int(time.time())]
        if place.after is not None:
            query += f" AND number {sign} (SELECT number FROM objects WHERE tenant = ? AND kind = ? AND id = ?)"
            given += [tenant, kind, place.after]
        found: list[Kept] = []
        with self._database.reading() as connection:
            for row in connection.execute(f"{query} ORDER BY number {order}", given):
                kept = _kept(row)
                if matches(kept.value):
                    found.append(kept)
                if len(found) > place.limit:
                    return Page(found[:-1], has_more=True)
        return Page(found, has_more=False)

    def path(self, last: int | None, before: int | None = None) -> list[Value]:
        """The items of a path, those behind `before`."""
        with self._database.reading() as connection:
            return [item.value for item in paths.path(connection, last, before)]

    def item(self, tenant: str, name: str) -> Value | None:
        """An item by its id, wherever it stands."""
        with self._database.reading() as connection:
            query = "SELECT value FROM items WHERE tenant = ? AND id = ? ORDER BY number DESC LIMIT 1"
            row = connection.execute(query, (tenant, name)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def places(self, kept: Kept) -> list[int]:
        """Where an object has contents."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT place FROM contents WHERE object = ? ORDER BY place", (kept.number,))
            return [place for (place,) in rows]

    def contents(self, kept: Kept) -> Iterator[bytes]:
        """What belongs to an object, in order, one piece at a time."""
        for place in self.places(kept):
            with self._database.reading() as connection:
                query = "SELECT data FROM contents WHERE object = ? AND place = ?"
                row = connection.execute(query, (kept.number, place)).fetchone()
            if row is not None:
                yield row[0]

    def left_open(self, kind: str) -> list[tuple[str, Kept]]:
        """Objects of all tenants that somebody is, or was, at work on, oldest first."""
        with self._database.reading() as connection:
            query = f"SELECT tenant, {COLUMNS} FROM objects WHERE kind = ? AND is_open ORDER BY number"
            return [(row[0], _kept(row[1:])) for row in connection.execute(query, (kind,))]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction; what is known of the rooms is counted again if it fails."""
        try:
            with self._database.transaction() as connection:
                yield connection
        except Exception:
            with self._database.reading() as connection:
                self._count(connection)
            raise

    # Inside a transaction ------------------------------------------------------------------------------------
    def _find(self, connection: sqlite3.Connection, tenant: str, kind: str, name: str) -> Kept | None:
        query = f"SELECT {COLUMNS} FROM objects WHERE tenant = ? AND id = ? AND kind = ? AND {ALIVE}"
        row = connection.execute(query, (tenant, name, kind, int(time.time()))).fetchone()
        return None if row is None else _kept(row)

    def _set(self, connection: sqlite3.Connection, tenant: str, found: Kept, value: Value) -> None:
        data = msgspec.json.encode(value)
        more = len(data) - len(msgspec.json.encode(found.value))
        row = (data, more, found.number)
        connection.execute("UPDATE objects SET value = ?, size = size + ? WHERE number = ?", row)
        self._account(tenant, found.kind, 0, more)
        self._touch(connection, found)

    def _put(self, connection: sqlite3.Connection, tenant: str, found: Kept, place: int, data: bytes) -> None:
        size = len(data) + ROW
        connection.execute("INSERT INTO contents VALUES (?, ?, ?)", (found.number, place, data))
        connection.execute("UPDATE objects SET size = size + ? WHERE number = ?", (size, found.number))
        self._account(tenant, found.kind, 0, size)

    def _clear(self, connection: sqlite3.Connection, tenant: str, found: Kept) -> None:
        query = "SELECT coalesce(sum(length(data) + ?), 0) FROM contents WHERE object = ?"
        (size,) = connection.execute(query, (ROW, found.number)).fetchone()
        connection.execute("DELETE FROM contents WHERE object = ?", (found.number,))
        connection.execute("UPDATE objects SET size = size - ? WHERE number = ?", (size, found.number))
        self._account(tenant, found.kind, 0, -size)

    def _lengthen(self, connection: sqlite3.Connection, tenant: str, found: Kept, items: Sequence[Value]) -> None:
        if items:
            last, size = paths.extend(connection, tenant, found.ends, items)
            self._account(tenant, found.kind, 0, size)
            self._end_in(connection, tenant, found, last)

    def _end_in(self, connection: sqlite3.Connection, tenant: str, found: Kept, last: int | None) -> None:
        paths.take(connection, last)
        connection.execute("UPDATE objects SET ends = ? WHERE number = ?", (last, found.number))
        self._account(tenant, found.kind, 0, -paths.release(connection, found.ends))

    def _touch(self, connection: sqlite3.Connection, found: Kept) -> None:
        connection.execute("UPDATE objects SET touched = ? WHERE number = ?", (self._next(), found.number))

    def _next(self) -> int:
        self._last += 1
        return int(self._last)

    def _remove(self, connection: sqlite3.Connection, tenant: str, found: Kept) -> None:
        (size,) = connection.execute("SELECT size FROM objects WHERE number = ?", (found.number,)).fetchone()
        connection.execute("DELETE FROM objects WHERE number = ?", (found.number,))
        connection.execute("DELETE FROM contents WHERE object = ?", (found.number,))
        self._account(tenant, found.kind, -1, -size - paths.release(connection, found.ends))

    def _purge(self, connection: sqlite3.Connection) -> None:
        """Let go of what has expired, now and then."""
        if time.monotonic() - self._purged_at < PURGE_SECONDS:
            return
        self._purged_at = time.monotonic()
        query = f"SELECT tenant, {COLUMNS} FROM objects WHERE expires <= ?"
        for row in connection.execute(query, (int(time.time()),)).fetchall():
            self._remove(connection, row[0], _kept(row[1:]))

    def _make_room(self, tenant: str, kind: str, size: int) -> None:
        if kind in FILES and self.room(tenant, kind).num_bytes + size > self._limits.file_bytes:
            message = f"files and batches of one key may have {self._limits.file_bytes} bytes; delete some files first"
            raise NoRoom(message, "file")

    def _let_go(self, connection: sqlite3.Connection, tenant: str, spared: int) -> None:
        """While there are too many objects, that go which were written longest ago; the newest if it is too large."""
        room, limits = self._rooms[tenant, False], self._limits
        closed = f"SELECT {COLUMNS} FROM objects WHERE tenant = ? AND kind NOT IN {FILES} AND NOT is_open"
        while room.num_objects > limits.num_objects or room.num_bytes > limits.num_bytes:
            others = f"{closed} AND number <> ? ORDER BY touched LIMIT 1"
            row = connection.execute(others, (tenant, spared)).fetchone()
            if row is None:
                row = connection.execute(f"{closed} AND number = ?", (tenant, spared)).fetchone()
            if row is None:
                return
            self._remove(connection, tenant, _kept(row))

    def _account(self, tenant: str, kind: str, num_objects: int, num_bytes: int) -> None:
        room = self._rooms[tenant, kind in FILES]
        room.num_objects += num_objects
        room.num_bytes += num_bytes

    def _count(self, connection: sqlite3.Connection) -> None:
        self._rooms.clear()
        query = f"SELECT tenant, kind IN {FILES}, count(*), sum(size) FROM objects GROUP BY 1, 2"
        for tenant, is_file, num_objects, num_bytes in connection.execute(query):
            self._rooms[tenant, bool(is_file)] = Room(num_objects, num_bytes)
        for tenant, num_bytes in connection.execute("SELECT tenant, sum(size) FROM items GROUP BY 1"):
            self._rooms[tenant, False].num_bytes += num_bytes


ALIVE = "(expires IS NULL OR expires > ?)"


def _kept(row: Sequence[Any]) -> Kept:
    number, name, kind, created, is_open, begins, ends, value = row
    return Kept(number, name, kind, created, bool(is_open), begins, ends, msgspec.json.decode(value))
