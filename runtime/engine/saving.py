"""The prefix cache with its KV as a file, and back into a pool of any size of the same model.

Path by path, each between two steps, so that the engine goes on meanwhile. It evicts nothing: what does not fit into
free blocks is left out.

magic | of each path: its blocks, its marks | token ids | header (JSON) | length of the header | SHA-256 of all before

A path is stored as what it does not share with the one before it, in whole blocks; in the tree's order that is all it
shares with any earlier one:

    path before   | block 0 | block 1 | block 2 ...
    path          |  the same text    | its own blocks and tokens |
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from stemma.kernels.memory import Memory
from stemma.kernels.ops import Int32Array
from stemma.radix import Namespace, PrefixCache, Segments, namespace_of_node
from stemma.radix.node import Node
from stemma.runtime.core.admission import common_prefix, placed
from stemma.runtime.engine.loading import PathBytes
from stemma.runtime.engine.memory_bytes import MemoryBytes
from stemma.runtime.engine.namespaces import is_shared, owner_of
from stemma.runtime.errors import CacheFileError
from stemma.runtime.model import LoadedModel

MAGIC = b"stemma.kv\x00\x00\x02"
DIGEST_BYTES = 32
TOLERANCE = 0.05
"""How far log-probabilities of the same tokens may differ: less between machines, more between models."""

PROBE_TOKENS = 32
PROBE_NAMESPACE = "stemma//probe"
"""Namespace of the tokens whose log-probabilities tell whether a saved cache is of this model."""

ROOM_BESIDE = 64 << 10
"""Bytes of a file that are no path's."""
TOKEN_BYTES = 4

Owns = Callable[[str], bool]
Paths = list[tuple[Namespace, Int32Array]]


class CacheFile(NamedTuple):
    """What was saved or loaded. num_tokens: of different text. num_skipped: of those, for which there was no room."""

    num_paths: int
    num_tokens: int
    num_skipped: int
    num_bytes: int


class _Path(NamedTuple):
    """ids: that are cached. blocks, marks: the bytes of each. places: positions of marks, and how many window blocks
    each has."""

    ids: Int32Array
    blocks: list[bytes]
    places: list[tuple[int, int]]
    marks: list[bytes]


@dataclass(frozen=True, slots=True)
class Saver:
    """An engine's cache and KV. between_steps: calls a function when nothing is being computed.

    identity: what must be equal for KV to be of use. probe: log-probabilities of some tokens, which tell models apart.
    """

    memory: MemoryBytes
    identity: dict[str, Any]
    probe: Sequence[float]
    between_steps: Callable[[Callable[[PrefixCache], Any]], Any]

    # Saving ----------------------------------------------------------------
    def save(self, path: Path, owns: Owns, max_bytes: int | None, *, only_hot: bool = False) -> CacheFile:
        """Write what is cached in the namespaces that `owns` accepts; the file is whole, or as it was before. Of what
        all share there is only what a namespace goes on from. only_hot: what was used last, as much as `max_bytes` have
        room for.

        Raises CacheFileError if it would be longer than `max_bytes`.
        """
        beside = path.with_name(f"{path.name}.part{os.getpid()}")
        try:
            with beside.open("wb") as file:
                made = self._write(file, self._chosen(owns, max_bytes if only_hot else None), max_bytes)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        return made

    def _chosen(self, owns: Owns, max_bytes: int | None) -> Paths:
        """What is to be saved: all, or the hot part that has so many bytes."""
        if max_bytes is None:
            every: Paths = self.between_steps(lambda cache: _paths(cache, owns))
            return every
        most = max(0, max_bytes - ROOM_BESIDE) // (self.memory.block_bytes // self._block_size + TOKEN_BYTES)
        hot: Paths = self.between_steps(lambda cache: _paths(cache, owns, most))
        return hot

    def _write(self, file: BinaryIO, paths: Paths, max_bytes: int | None) -> CacheFile:
        digest, rows, tokens = hashlib.sha256(), list[tuple[Namespace, int, int, list[tuple[int, int]]]](), array("i")
        before: tuple[Namespace, Int32Array] = ("", np.empty(0, np.int32))

        def put(data: bytes) -> None:
            digest.update(data)
            file.write(data)
            if max_bytes is not None and file.tell() > max_bytes:
                raise CacheFileError(
                    f"the cache takes more than {max_bytes:,} bytes; save a part of it, or flush first"
                )

        put(MAGIC)
        for name, ids in paths:
            common = common_prefix(before[1], ids) if before[0] == name else 0
            first = common // self._block_size
            path = self.between_steps(partial(self._read, name=name, ids=ids, first=first, after=common))
            ids = path.ids
            if len(ids) <= first * self._block_size:
                continue  # evicted meanwhile
            for data in (*path.blocks, *path.marks):
                put(data)
            rows.append((name, first, len(ids), path.places))
            tokens.extend(ids[first * self._block_size :].tolist())
            before = (name, ids)
        put(tokens.tobytes())
        header = {**self.identity, "probe": list(self.probe), "created": time.time(), "paths": rows}
        put(data := json.dumps(header).encode())
        put(len(data).to_bytes(8, "little"))
        file.write(digest.digest())
        return CacheFile(len(rows), len(tokens), 0, file.tell())

    @property
    def _block_size(self) -> int:
        return self.memory.block_size

    def _read(self, cache: PrefixCache, name: Namespace, ids: Int32Array, first: int, after: int) -> _Path:
        """What is cached of a path: the KV of its blocks from `first` on, and its marks behind `after`."""
        found = cache.match(ids, name)
        blocks = [self.memory.read_block(block) for block in found.blocks[first:]]
        marks = [mark for mark in cache.marks(ids, name) if mark.position > after]
        told = [(mark.position, len(mark.window_blocks)) for mark in marks]
        return _Path(ids[: found.match_len], blocks, told, [self.memory.read_mark(mark) for mark in marks])

    # Loading ----------------------------------------------------------------
    def load(self, path: Path, owns: Owns) -> CacheFile:
        """Put what a file has of the namespaces that `owns` accepts into free blocks.

        Raises CacheFileError, with nothing changed, for what is no such file, is damaged, or is of another model.
        """
        data = _checked(path)
        header, tokens = self._header(data)
        num_tokens = num_skipped = num_paths = tokens_at = 0
        block_at = len(MAGIC)
        before = np.empty(0, np.int32)
        for written, first, length, places in header["paths"]:
            name = written if isinstance(written, str) else Segments(*written)
            start = first * self._block_size
            ids = np.concatenate((before[:start], tokens[tokens_at : tokens_at + length - start]))
            num_bytes = (-(-length // self._block_size) - first) * self.memory.block_bytes
            num_bytes += sum(self.memory.mark_bytes(num_window_blocks) for _, num_window_blocks in places)
            if owns(owner_of(name)):
                kv = memoryview(data)[block_at : block_at + num_bytes]
                stored = PathBytes.parted(self.memory, ids, first, kv, places)
                loaded = self.between_steps(partial(put, name=name, path=stored))
                num_paths += loaded == length
                num_tokens += length - start
                num_skipped += min(length - loaded, length - start)
            tokens_at, block_at, before = tokens_at + length - start, block_at + num_bytes, ids
        return CacheFile(num_paths, num_tokens, num_skipped, len(data))

    def _header(self, data: bytes) -> tuple[dict[str, Any], Int32Array]:
        length_at = len(data) - DIGEST_BYTES - 8
        begin = length_at - int.from_bytes(data[length_at : length_at + 8], "little")
        header = json.loads(data[begin:length_at])
        if (why := same_model(header, header["probe"], self)) is not None:
            raise CacheFileError(why)
        num_tokens = sum(length - first * self._block_size for _, first, length, _ in header["paths"])
        return header, np.frombuffer(data[begin - 4 * num_tokens : begin], dtype=np.int32)


def put(cache: PrefixCache, name: Namespace, path: PathBytes) -> int:
    """Put a path into free blocks. Returns how many of its tokens are cached then."""
    if isinstance(name, Segments) and placed(cache, path.ids, name.salt, name) != name:
        return 0
    with cache.acquire_uncounted(path.ids, name) as lease:
        return path.fill(lease, cache, cache.stats().free)


def same_model(identity: Mapping[str, Any], probe: Sequence[float], ours: Saver) -> str | None:
    """Why KV of that identity and probe is of no use here; None if it is."""
    for name, here in ours.identity.items():
        if identity.get(name) != json.loads(json.dumps(here)):
            return f"the KV is of an engine with {name} {identity.get(name)}; this one has {here}"
    if len(probe) != len(ours.probe) or not np.allclose(probe, ours.probe, atol=TOLERANCE):
        return "the KV is of a model with other weights"
    return None


def saver(loaded: LoadedModel, memory: Memory, probe: Sequence[float], between_steps: Callable[..., Any]) -> Saver:
    """Of an engine on this model. probe: the log-probabilities of `probe_tokens`."""
    ops = loaded.model.ops
    identity = {
        "model": repr(loaded.config),
        "kv": [[*pool.shape._replace(num_blocks=0)] for pool in (memory.full, memory.window) if pool is not None],
        "backend": [ops.name, memory.full.format],
    }
    return Saver(MemoryBytes(ops, memory), identity, probe, between_steps)


def every(namespace: str) -> bool:
    """Owns all."""
    return True


def probe_tokens(loaded: LoadedModel) -> list[int]:
    """What a model is asked to be known by."""
    return [index * (loaded.config.vocab_size // PROBE_TOKENS) for index in range(PROBE_TOKENS)]


def _paths(cache: PrefixCache, owns: Owns, most: int | None = None) -> Paths:
    """Every path to a leaf, with its namespace, in the tree's order; but for texts that all share. most: those used
    last, that have so many tokens together."""
    leaves = []
    for node in cache.walk():
        name = namespace_of_node(node)
        if not node.has_children and node.parent is not None and not is_shared(owner_of(name)) and owns(owner_of(name)):
            leaves.append((name, node))
    if most is not None:
        leaves = _hottest(leaves, most)
    paths = []
    for name, node in leaves:
        parts, above = [], node
        while above.parent is not None:
            parts.append(above.tokens)
            above = above.parent
        paths.append((name, np.frombuffer(b"".join(reversed(parts)), dtype=np.int32)))
    return sorted(paths, key=lambda path: (owner_of(path[0]), path[0] != owner_of(path[0]), path[1].tolist()))


def _hottest(leaves: list[tuple[Namespace, Node]], most: int) -> list[tuple[Namespace, Node]]:
    """Of these leaves those used last whose paths have at most so many tokens; what paths share counts once."""
    chosen: list[tuple[Namespace, Node]] = []
    counted: set[int] = set()
    for name, leaf in sorted(leaves, key=lambda each: -each[1].last_access):
        path, above = [], leaf
        while above.parent is not None:
            path.append(above)
            above = above.parent
        new = [node for node in path if id(node) not in counted]
        num_tokens = sum(node.end - node.start for node in new)
        if num_tokens <= most:
            most -= num_tokens
            counted.update(map(id, new))
            chosen.append((name, leaf))
    return chosen


def _checked(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CacheFileError(f"there is no saved cache at {path}: {error.strerror}") from error
    if data[: len(MAGIC)] != MAGIC or len(data) < len(MAGIC) + 8 + DIGEST_BYTES:
        raise CacheFileError(f"{path} is no saved cache of this version")
    if hashlib.sha256(memoryview(data)[:-DIGEST_BYTES]).digest() != data[-DIGEST_BYTES:]:
        raise CacheFileError(f"{path} is damaged: its checksum does not fit")
    return data
