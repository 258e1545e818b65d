"""Items in paths that share their beginnings: what a conversation and every answer in it go on from is kept once.

response 1   | question | answer |
response 2   | question | answer | question | answer |
response 3   | question | answer | another question  | answer |      (a fork)

An item stands behind its parent; a path is told by its last item. An item goes when nothing stands behind it and no
object's path ends in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

PATH = """
WITH RECURSIVE path (number, parent, depth) AS (
    SELECT number, parent, 0 FROM items WHERE number = :last
    UNION ALL
    SELECT items.number, items.parent, depth + 1 FROM path JOIN items ON items.number = path.parent
    WHERE items.number IS NOT :before
)
SELECT items.number, items.value FROM path JOIN items ON items.number = path.number ORDER BY depth DESC
"""
BYTES_OF_A_ROW = 128
"""What a row takes besides its values, about."""


class Item(NamedTuple):
    """An item of a path. value: with its id."""

    number: int
    value: dict[str, Any]


def path(connection: sqlite3.Connection, last: int | None, before: int | None = None) -> list[Item]:
    """The items of a path in order, those behind `before`."""
    if last is None or last == before:
        return []
    rows = connection.execute(PATH, {"last": last, "before": before})
    return [Item(number, msgspec.json.decode(value)) for number, value in rows]


def exists(connection: sqlite3.Connection, number: int | None) -> bool:
    """Whether a path can go on from here; from nothing it always can."""
    return (
        number is None or connection.execute("SELECT 1 FROM items WHERE number = ?", (number,)).fetchone() is not None
    )


def extend(
    connection: sqlite3.Connection, tenant: str, last: int | None, values: Sequence[dict[str, Any]]
) -> tuple[int | None, int]:
    """More items behind a path's last: the new last one, and the bytes that were added. Whose path it is takes it."""
    size = 0
    for value in values:
        data = msgspec.json.encode(value)
        cost = len(data) + BYTES_OF_A_ROW
        take(connection, last)
        row = (tenant, value["id"], last, cost, data)
        done = connection.execute("INSERT INTO items (tenant, id, parent, uses, size, value) VALUES (?,?,?,0,?,?)", row)
        last, size = done.lastrowid, size + cost
    return last, size


def take(connection: sqlite3.Connection, last: int | None) -> None:
    """One more use of an item."""
    connection.execute("UPDATE items SET uses = uses + 1 WHERE number = ?", (last,))


def release(connection: sqlite3.Connection, last: int | None) -> int:
    """One use less; returns the bytes of what went with it."""
    freed = 0
    while last is not None:
        parent, uses, size = connection.execute(
            "SELECT parent, uses, size FROM items WHERE number = ?", (last,)
        ).fetchone()
        if uses > 1:
            connection.execute("UPDATE items SET uses = uses - 1 WHERE number = ?", (last,))
            return freed
        connection.execute("DELETE FROM items WHERE number = ?", (last,))
        last, freed = parent, freed + int(size)
    return freed
