"""The byte trie of a set of strings, breadth first: the children of a node are neighbours, and so are levels.

Built once for a vocabulary (and for the tables of its runs); never changed, never walked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.fsm.kernels.tables import Int64s


class Trie(NamedTuple):
    """Node 0 is the root. The children of node n are `first[n]` to `first[n + 1]`, in the order of their bytes."""

    byte: npt.NDArray[np.uint8]  # (nodes,)
    first: Int64s  # (nodes + 1,)
    key: Int64s  # (nodes,): the index of the string that ends here, or -1
    parent: Int64s  # (nodes,): of the root, itself


def build_trie(strings: Sequence[bytes]) -> Trie:
    """The trie of distinct, non-empty, sorted strings; `key` holds positions in `strings`."""
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    flat = np.frombuffer(b"".join(strings), np.uint8)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])) if len(strings) else np.zeros(0, np.int64)
    depth_limit = int(lengths.max(initial=0))
    groups = np.zeros(len(strings), np.int64)  # the node of each string at the current depth
    bytes_by_level, first_by_level, key_by_level = [np.zeros(1, np.uint8)], [], []
    alive = np.arange(len(strings))
    num_nodes, level_size = 1, 1
    level_key = np.full(1, -1, np.int64)
    for depth in range(depth_limit):
        here = flat[starts[alive] + depth].astype(np.int64)
        key = groups[alive] * 256 + here
        new = np.concatenate(([True], key[1:] != key[:-1]))
        node = np.cumsum(new) - 1
        children = np.bincount(groups[alive][new], minlength=level_size)
        first_by_level.append(num_nodes + np.concatenate(([0], np.cumsum(children)[:-1])))
        key_by_level.append(level_key)
        level_size = int(new.sum())
        num_nodes += level_size
        bytes_by_level.append(here[new].astype(np.uint8))
        level_key = np.full(level_size, -1, np.int64)
        groups[alive] = node
        ends = lengths[alive] == depth + 1
        level_key[node[ends]] = alive[ends]
        alive = alive[~ends]
    first_by_level.append(np.full(level_size + 1, num_nodes))
    key_by_level.append(level_key)
    first = np.concatenate(first_by_level).astype(np.int64)
    parent = np.concatenate(([0], np.repeat(np.arange(num_nodes), np.diff(first)))).astype(np.int64)
    return Trie(np.concatenate(bytes_by_level), first, np.concatenate(key_by_level).astype(np.int64), parent)
