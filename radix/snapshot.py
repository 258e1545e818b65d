"""A cache's tree and block numbers as bytes, and back. The KV itself is the caller's part.

magic, version | SHA-256 of the rest | length of the header | header (JSON) | token ids | block ids | window block ids

The marks of the tree are in it, with their slots; the states and the KV themselves are the caller's, as all KV is.
"""

import json
import os
import sys
from array import array
from collections.abc import Iterable
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from stemma.radix.errors import SnapshotError
from stemma.radix.marks import MarkStore
from stemma.radix.node import NO_SLOT, Mark, Node
from stemma.radix.store import BlockStore
from stemma.radix.tokens import TOKEN_BYTES

_MAGIC = b"stemma.radix\x00\x02"  # the last byte is the version
_DIGEST = 32
_LENGTH = 8
MOST = 2**60  # of anything that is counted


def dump(store: BlockStore) -> bytes:
    """The published tree. What leases have not committed is not in it."""
    numbers: dict[Node, int] = {}
    rows: list[list[Any]] = []
    tokens, blocks, now = [], array("i"), store.clock()
    names = {root: name for name, root in store.tree.roots.items()}
    for node in store.tree.matchable():
        parent = node.parent
        assert parent is not None
        above = numbers[parent] if parent in numbers else names[parent]
        if not node.is_asleep:  # what sleeps has nothing below it, and no marks
            numbers[node] = len(rows)
        salt = node.key[0] if isinstance(node.key, tuple) else None
        rows.append(
            [
                above,
                salt,
                node.shared,
                len(node.tokens) // TOKEN_BYTES,
                len(node.blocks),
                node.hits,
                node.born_at,
                node.used_at,
                now - node.last_access,
                node.priority,
                node.children_born,
                node.children_used,
            ]
        )
        tokens.append(node.tokens)
        blocks.extend(node.blocks)
    mark_rows, window_blocks = _mark_rows(numbers)
    header = json.dumps(
        {
            "block_size": store.tree.block_size,
            "num_blocks": store.pool.total,
            "byte_order": sys.byteorder,
            "mark_room": _room(store),
            "marks": mark_rows,
            "churn": store.logical_time,  # the name in files
            "nodes": rows,
        }
    ).encode()
    body = len(header).to_bytes(8, "little") + header + b"".join(tokens) + blocks.tobytes()
    body += window_blocks.tobytes()
    return _MAGIC + sha256(body).digest() + body


def _room(store: BlockStore) -> list[int | None] | None:
    return None if store.marks is None else list(store.marks.room)


def _mark_rows(numbers: dict[Node, int]) -> "tuple[list[list[int]], array[int]]":
    """The marks of numbered nodes, and their window blocks one after the other."""
    rows: list[list[int]] = []
    window_blocks = array("i")
    for node, number in numbers.items():
        for mark in (node.marks or {}).values():
            rows.append([number, mark.position, mark.slot, mark.hits, mark.used_at])
            window_blocks.extend(mark.window_blocks)
    return rows, window_blocks


def load(data: bytes | bytearray | memoryview, store: BlockStore) -> None:
    """Fill an empty store. SnapshotError when the bytes are not a snapshot of a cache like this one."""
    data = bytes(data)
    if data[: len(_MAGIC) - 1] != _MAGIC[:-1]:
        raise SnapshotError("these bytes are not a snapshot of a prefix cache")
    if len(data) < len(_MAGIC) + _DIGEST + _LENGTH:
        raise SnapshotError(f"the snapshot is corrupt: it ends after {len(data)} bytes")
    if data[: len(_MAGIC)] != _MAGIC:
        raise SnapshotError(f"the snapshot has version {data[len(_MAGIC) - 1]}, this library reads {_MAGIC[-1]}")
    body = data[len(_MAGIC) + _DIGEST :]
    if sha256(body).digest() != data[len(_MAGIC) : len(_MAGIC) + _DIGEST]:
        raise SnapshotError("the snapshot is corrupt: its checksum does not fit")
    try:
        _read(body, store)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, RecursionError) as error:
        if isinstance(error, SnapshotError):
            raise
        raise SnapshotError(f"the snapshot is not one that a cache has written: {error}") from error


def _read(body: bytes, store: BlockStore) -> None:
    length = int.from_bytes(body[:_LENGTH], "little")
    header = json.loads(body[_LENGTH : _LENGTH + length])
    for name, ours in (
        ("block_size", store.tree.block_size),
        ("num_blocks", store.pool.total),
        ("byte_order", sys.byteorder),
        ("mark_room", _room(store)),
    ):
        if header[name] != ours:
            raise SnapshotError(f"the snapshot is of a cache with {name} {header[name]}, this one has {ours}")
    store.logical_time = header["churn"]
    nodes, rest = _fill(store, header["nodes"], body[_LENGTH + length :])
    if store.marks is not None:
        rest = _fill_marks(store, store.marks, nodes, header["marks"], rest)
    if rest:
        raise ValueError("texts and blocks have other lengths than the header says")


def _fill(store: BlockStore, rows: list[list[Any]], data: bytes) -> tuple[list[Node], bytes]:
    """The tree; returns its nodes and the bytes behind its blocks."""
    tree, now, size = store.tree, store.clock(), store.tree.block_size
    nodes: list[Node] = []
    at, blocks_at = 0, TOKEN_BYTES * sum(row[3] for row in rows)
    for above, salt, shared, num_tokens, num_blocks, *known in rows:
        parent = tree.root(above) if isinstance(above, str) else nodes[above]
        key = data[at : at + TOKEN_BYTES]
        if num_tokens < 1 or num_blocks != -(-(parent.end + num_tokens) // size) - parent.end // size:
            raise ValueError(f"{num_tokens} tokens in {num_blocks} blocks")
        if (key if salt is None else (salt, key)) in parent.children or shared not in (0, parent.end % size and 1):
            raise ValueError("two texts in one place")
        if salt is not None and not isinstance(salt, str):
            raise ValueError(f"{salt!r} is no salt")
        _check_known(known, store.logical_time)
        tokens = data[at : at + TOKEN_BYTES * num_tokens]
        blocks = array("i", data[blocks_at : blocks_at + TOKEN_BYTES * num_blocks])
        at, blocks_at = at + TOKEN_BYTES * num_tokens, blocks_at + TOKEN_BYTES * num_blocks
        node = tree.grow(parent, tokens, blocks, shared, salt)
        node.hits, node.born_at, node.used_at, age, node.priority, node.children_born, node.children_used = known
        node.last_access = now - age
        nodes.append(node)
        store.published_blocks += node.owned
        store.published_tokens += node.end - node.start
        store.evictable += node.owned
    owned = [block for node in nodes for block in node.blocks[node.shared :]]
    if len(set(owned)) != len(owned) or any(not 0 <= block < store.pool.total for block in owned):
        raise ValueError("a block that is not there, or has two owners")
    if blocks_at > len(data):
        raise ValueError("texts and blocks have other lengths than the header says")
    store.pool.claim(owned)
    for node in nodes:
        if not node.has_children:
            store.queue.push(node, store.logical_time)
    return nodes, data[blocks_at:]


def _fill_marks(store: BlockStore, marks: MarkStore, nodes: list[Node], rows: list[list[int]], data: bytes) -> bytes:
    """The marks of the nodes; returns the bytes behind their window blocks."""
    made: list[tuple[Node, Mark]] = []
    at, index_of = 0, dict[int, int]()
    for number, position, slot, hits, used_at in rows:
        node = nodes[number]
        if not node.start < position <= node.end or (slot == NO_SLOT) != (marks.slots is None):
            raise ValueError("a mark that is not in its text, or has no slot")
        if not all(type(count) is int and 0 <= count < MOST for count in (hits, used_at, store.logical_time - used_at)):
            raise ValueError("what is known of a mark are not counts")
        num_bytes, first = TOKEN_BYTES * marks.window_len(position), 0
        blocks = array("i", data[at : at + num_bytes])
        if marks.windows is not None:
            first = marks.first_block(position)
            if any(index_of.setdefault(block, index) != index for index, block in enumerate(blocks, first)):
                raise ValueError("a window block in two places")
        mark = Mark(position, slot, first, blocks, used_at)
        mark.hits = hits
        made.append((node, mark))
        at += num_bytes
    if at > len(data):
        raise ValueError("marks and window blocks have other lengths than the header says")
    slots = [mark.slot for _, mark in made]
    if marks.slots is not None and (len(set(slots)) != len(slots) or not _all_below(slots, marks.slots.total)):
        raise ValueError("a slot that is not there, or has two owners")
    if marks.windows is not None and not _all_below(index_of, marks.windows.total):
        raise ValueError("a window block that is not there")
    if len({(node, mark.position) for node, mark in made}) != len(made):
        raise ValueError("two marks in one place")
    marks.restore(made)
    return data[at:]


def _all_below(numbers: Iterable[int], most: int) -> bool:
    return all(0 <= number < most for number in numbers)


def _check_known(known: list[Any], logical_time: int) -> None:
    """The numbers of a text are counts and times that a cache can have counted."""
    hits, born_at, used_at, age, priority, children_born, children_used = known
    counts = (hits, born_at, used_at, children_born, children_used, logical_time)
    if not all(type(count) is int and 0 <= count < MOST for count in counts) or not born_at <= used_at <= logical_time:
        raise ValueError("what is known of a text are not counts")
    if not isinstance(age, int | float) or not isfinite(age) or type(priority) is not int:
        raise ValueError("what is known of a text are no numbers")


def write(data: bytes, path: Path) -> None:
    """Write a snapshot so that `path` has the old bytes or the new ones, never a part."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
