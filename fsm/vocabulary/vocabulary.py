"""A tokenizer as the automaton sees it: the bytes of every token, which are special, and the trie of the rest.

It knows nothing of grammars. A tokenizer's own encoder may be given, for forced tokens; it is never guessed.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from stemma.fsm.kernels.slices import TokenSlice
from stemma.fsm.kernels.tables import Int64s, room
from stemma.fsm.kernels.trie import Trie, build_trie
from stemma.fsm.vocabulary.byte_pairs import BytePairRules, PairEncoding, Tokenize
from stemma.fsm.vocabulary.disk_cache import DiskCache
from stemma.fsm.vocabulary.slice_tables import build_slice

SLICE_PREFIX = "run-"
SLICE_NAME = re.compile(r"run-(?:[0-9a-f]{2})*")
MOST_PATHS = 2  # that are kept for others
FEW_BYTES = 4  # a slice with so many bytes less will do


class Vocabulary:
    """The tokens of one tokenizer; build it once and share it over all grammars."""

    def __init__(
        self,
        token_bytes: Sequence[bytes | None],
        special: Mapping[str, int],
        eos_ids: Sequence[int],
        tokenize: Tokenize | None = None,
        pairs: PairEncoding | None = None,
    ) -> None:
        """`token_bytes[i]` is what token i decodes to; None or b"" for tokens that ordinary text never holds.

        `special` maps the text of special tokens to their ids; `eos_ids` end a complete output. `tokenize` is the
        tokenizer's encoder without special tokens and without any prefix; without it no token is ever forced. `pairs`
        says that it joins byte pairs, and how; with it more tokens are certain.
        """
        self.size = len(token_bytes)
        self.num_words = (self.size + 31) // 32
        self.special = dict(special)
        self.eos_ids = tuple(eos_ids)
        self.tokenize = tokenize
        excluded = {*self.special.values(), *self.eos_ids}
        self.token_bytes = [
            b"" if not data or token in excluded else bytes(data) for token, data in enumerate(token_bytes)
        ]
        self.pair_rules = (
            None if tokenize is None or pairs is None else BytePairRules(pairs, tokenize, self.token_bytes)
        )
        self.key = _key(self.token_bytes)
        self._store = DiskCache(self.key)
        self.trie, self.twins = self._loaded_trie()
        self.nodes = _nodes_of(self.trie, self.size)
        lengths = np.fromiter(map(len, self.token_bytes), np.int64, self.size)
        self.longest = int(lengths.max(initial=0))
        self._shortest_first = np.argsort(lengths, kind="stable")
        self._starts = np.searchsorted(lengths[self._shortest_first], np.arange(self.longest + 2))
        self._left_paths: deque[Int64s] = deque(maxlen=MOST_PATHS)
        self._slices = self._loaded_slices()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Vocabulary({self.size} tokens, {len(self.special)} special)"

    def new_path(self) -> Int64s:
        """Room for a walk over the trie, twice as much as the deepest one needs: one that was left, if there is any."""
        try:
            return self._left_paths.pop()
        except IndexError:
            return room((512 * (self.longest + 2), 3), np.int64)

    def leave_path(self, path: Int64s) -> None:
        """Keep the room of somebody who walks no more, for the next: new pages cost a fault each."""
        self._left_paths.append(path)

    def longer_than(self, length: int) -> Int64s:
        """The tokens of more bytes than that."""
        return self._shortest_first[self._starts[min(length, self.longest) + 1] :]

    def slice_of(self, inside: Int64s) -> TokenSlice:
        """The slice of a set of bytes: `inside[b]` for ASCII b, `inside[128]`: which other characters (see
        `slices`)."""
        key = np.packbits(inside[:128].astype(np.bool_)).tobytes() + bytes([inside[128]])
        sliced = self._slices.get(key)
        if sliced is None:
            with self._lock:
                sliced = self._slices[key] = build_slice(self.trie, inside, self.new_path(), self.num_words)
            self._store.save_later(SLICE_PREFIX + key.hex(), sliced._asdict())
        return sliced

    def flush(self) -> None:
        """Wait until all tables built so far are on disk."""
        self._store.wait()

    def slice_within(self, inside: Int64s) -> TokenSlice:
        """A known slice with all but a few of the bytes, so that not every set of bytes takes tables of its own; else
        the slice of the set itself. For those who read what leaves it as it is."""
        wanted = np.packbits(inside[:128].astype(np.bool_)).tobytes()
        bits, beyond = int.from_bytes(wanted), int(inside[128])
        if wanted + bytes([beyond]) in self._slices:
            return self.slice_of(inside)
        nearest, missing = None, FEW_BYTES + 1
        for key, sliced in list(self._slices.items()):
            known = int.from_bytes(key[:-1])
            if key[-1] == beyond and not known & ~bits and (bits ^ known).bit_count() < missing:
                nearest, missing = sliced, (bits ^ known).bit_count()
        return nearest if nearest is not None else self.slice_of(inside)

    def _loaded_trie(self) -> tuple[Trie, Int64s]:
        """The trie with token ids for keys, and pairs of tokens with the same bytes, of which it has the first."""
        known = self._store.load("trie")
        if known is not None and set(known) == {*Trie._fields, "twins"}:
            return Trie(known["byte"], known["first"], known["key"], known["parent"]), known["twins"]
        strings: list[bytes] = []
        tokens: list[int] = []
        twins: list[tuple[int, int]] = []
        for data, token in sorted((data, token) for token, data in enumerate(self.token_bytes) if data):
            if strings and strings[-1] == data:
                twins.append((tokens[-1], token))
            else:
                strings.append(data)
                tokens.append(token)
        trie = _with_tokens(build_trie(strings), np.array(tokens, np.int64))
        pairs = np.array(twins, np.int64).reshape(-1, 2)
        self._store.save("trie", {**trie._asdict(), "twins": pairs})
        return trie, pairs

    def _loaded_slices(self) -> dict[bytes, TokenSlice]:
        """The slices that earlier grammars of this vocabulary asked for."""
        slices: dict[bytes, TokenSlice] = {}
        for name in self._store.names():
            if not SLICE_NAME.fullmatch(name):
                continue
            arrays = self._store.load(name)
            if arrays is not None and set(arrays) == set(TokenSlice._fields):
                slices[bytes.fromhex(name.removeprefix(SLICE_PREFIX))] = TokenSlice(**arrays)
        return slices


def _with_tokens(trie: Trie, tokens: Int64s) -> Trie:
    """The trie with token ids for keys."""
    if not len(tokens):
        return trie
    return trie._replace(key=np.where(trie.key >= 0, tokens[trie.key], -1).astype(np.int64))


def _nodes_of(trie: Trie, size: int) -> Int64s:
    """The node where each token ends; 0 for tokens without one."""
    nodes = np.zeros(size, np.int64)
    [ends] = np.nonzero(trie.key >= 0)
    nodes[trie.key[ends]] = ends
    return nodes


def _key(token_bytes: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for data in token_bytes:
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return digest.hexdigest()
