"""What the store is given and gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from stemma.runtime.errors import InvalidRequest

Value = dict[str, Any]
"""An object as JSON values."""


class NoRoom(InvalidRequest):
    """A tenant's files and batches would take more than they may."""


class Gone(Exception):
    """What an object was to go on from is not there any more."""


class Limits(NamedTuple):
    """What one tenant may have.

    num_objects, num_bytes: of answers and conversations; the one that was written longest ago goes for a new one.
    file_bytes: of files and batches; when they are full there is no room.
    """

    num_objects: int
    num_bytes: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to keep.

    expires: Unix time. is_open: somebody is at work on it, so it is not let go for others.
    after, items: the item that its path goes on from, and what stands in it behind that.
    contents: bytes that belong to it, in pieces. is_bounded: it is kept only if there is room for it.
    """

    kind: str
    id: str
    created: int
    value: Value
    expires: int | None = None
    is_open: bool = False
    after: int | None = None
    items: Sequence[Value] = ()
    contents: Sequence[bytes] = ()
    is_bounded: bool = True


class Kept(NamedTuple):
    """An object that is kept.

    begins, ends: items; what stands behind the first, up to the last, the object itself has said.
    """

    number: int
    id: str
    kind: str
    created: int
    is_open: bool
    begins: int | None
    ends: int | None
    value: Value


class Place(NamedTuple):
    """Which part of a list is asked for. after: the id of the object before it."""

    after: str | None = None
    limit: int = 20
    is_descending: bool = True


class Page(NamedTuple):
    """A part of a list."""

    objects: list[Kept]
    has_more: bool
