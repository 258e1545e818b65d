"""A cache's tree and block numbers as bytes, and back. The KV itself is the caller's part.

magic, version | SHA-256 of the rest | length of the header | header (JSON) | token ids | block ids
"""

import json
import os
import sys
from array import array
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from stemma.radix.errors import SnapshotError
from stemma.radix.node import Node
from stemma.radix.store import BlockStore
from stemma.radix.tokens import TOKEN_BYTES

_MAGIC = b"stemma.radix\x00\x01"  # the last byte is the version
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
    header = json.dumps(
        {
            "block_size": store.tree.block_size,
            "num_blocks": store.pool.total,
            "byte_order": sys.byteorder,
            "churn": store.logical_time,  # the name in files
            "nodes": rows,
        }
    ).encode()
    body = len(header).to_bytes(8, "little") + header + b"".join(tokens) + blocks.tobytes()
    return _MAGIC + sha256(body).digest() + body


def load(data: bytes, store: BlockStore) -> None:
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
    ):
        if header[name] != ours:
            raise SnapshotError(f"the snapshot is of a cache with {name} {header[name]}, this one has {ours}")
    store.logical_time = header["churn"]
    _fill(store, header["nodes"], body[_LENGTH + length :])


def _fill(store: BlockStore, rows: list[list[Any]], data: bytes) -> None:
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
    if blocks_at != len(data):
        raise ValueError("texts and blocks have other lengths than the header says")
    store.pool.claim(owned)
    for node in nodes:
        if not node.children:
            store.queue.push(node, store.logical_time)


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
