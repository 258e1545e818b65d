"""A compiled grammar: an automaton, a vocabulary, and the masks of the configurations met so far.

It may be shared by any number of matchers, in any threads. It knows no history; that is the matcher's.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.automaton.program import FIRST_SPECIAL
from stemma.fsm.automaton.shortest_completion import ShortestCompletion, fewest_tokens
from stemma.fsm.errors import FormError
from stemma.fsm.kernels.look import DONE
from stemma.fsm.kernels.tables import Int64s, Limits
from stemma.fsm.matching.mask_cache import MaskCache, Words
from stemma.fsm.matching.masking import Masking
from stemma.fsm.matching.place import DEAD_END, Place, Places, end_of
from stemma.fsm.syntax import ast
from stemma.fsm.vocabulary.vocabulary import Vocabulary
from stemma.fsm.work import work_limit

END = -1
MAX_SPANS = 64
BYTES_OF_AN_ENTRY = 250  # of a dict: its key, its value and their place


class JumpEdge(NamedTuple):
    """Bytes with no alternative, and the configuration after them."""

    data: bytes
    end: int


class Forced(NamedTuple):
    """Tokens that must come next: `tokens` are certain and canonical, `drafts` have to be verified like guesses."""

    tokens: list[int]
    drafts: list[int]


class CompiledGrammar:
    """`grammar` made ready for `vocabulary`."""

    def __init__(self, grammar: ast.Grammar, vocabulary: Vocabulary, limits: Limits = Limits()) -> None:  # noqa: B008
        self.vocabulary = vocabulary
        self._lock = threading.RLock()
        self._grammar = replace(grammar, rule=functools.cache(grammar.rule))
        self._limits = limits
        self._successor: CompiledGrammar | None = None
        self.automaton = Automaton(self._grammar, limits)
        self._step_bytes = self.automaton.kernels.step_bytes
        self._cache = MaskCache(vocabulary.num_words)
        self.places = Places(vocabulary.num_words)
        self._masking = Masking(self.automaton, vocabulary, self._cache)
        self._jump_edges: dict[int, JumpEdge] = {}
        self._completion = ShortestCompletion(self.automaton)
        self.jumps: dict[tuple[int, bytes], Forced] = {}  # filled by `jump`

    @property
    def start(self) -> int:
        return self.automaton.start

    @property
    def num_bytes(self) -> int:
        """About how much memory this takes by now: it grows with what is visited, up to the limits."""
        entries = len(self._jump_edges) + len(self.jumps) + self._completion.num_kept
        remembered = entries * BYTES_OF_AN_ENTRY + self.places.num_bytes
        successor = self._successor.num_bytes if self._successor is not None else 0
        return self.automaton.num_bytes + self._cache.num_bytes + remembered + successor

    def for_new_sequence(self) -> CompiledGrammar:
        """This, or a fresh one where many sequences have half filled the limits. Those that have begun stay here."""
        with self._lock:
            if self._successor is None and not self.automaton.is_half_full:
                return self
            successor = self._successor
            if successor is None or successor.automaton.is_half_full:
                successor = self._successor = CompiledGrammar(self._grammar, self.vocabulary, self._limits)
            return successor

    def place(self, config: int) -> Place:
        """What is known of a configuration."""
        with self._lock:
            return self.places.at(config)

    def mask(self, config: int) -> Words:
        """The tokens allowed at `config`, a bit each, read only: bit i & 31 of word i >> 5."""
        return self.mask_at(self.place(config))

    def mask_at(self, place: Place) -> Words:
        """The same of a place: none at an end."""
        mask = place.mask
        if mask is None:
            with self._lock:
                mask = place.mask
                if mask is None:  # nor was it computed while this waited
                    mask = self._computed(place)
                    self.places.keep_mask(place, mask)
        return mask

    def step(self, config: int, token: int) -> int:
        """The configuration after `token`, 0 if it is not allowed. End-of-text tokens are the matcher's affair."""
        return max(self.step_from(self.place(config), token), DEAD_END)

    def step_from(self, place: Place, token: int) -> int:
        """The key of the place behind `token`, `DEAD_END` if it is not allowed."""
        key = place.steps.get(token)
        if key is None:
            config, vocabulary = place.key, self.vocabulary
            with self._lock:
                data = vocabulary.token_bytes[token] if config >= 0 and 0 <= token < vocabulary.size else None
                key = self._step_bytes(self.automaton.tables, config, data) if data else -1
                if key < 0:  # rules or room are missing, or it is no ordinary token
                    key = self._stepped(config, token, data)
                self.places.keep_step(place, token, key)
        return key

    def is_last(self, place: Place) -> bool:
        """Whether nothing can follow but the end of text; not where the end cannot come either."""
        if place.is_last is None:
            place.is_last = place.is_end or self._ends_at(place.config)
        return place.is_last

    def is_accepting(self, config: int) -> bool:
        return self.automaton.is_accepting(config)

    def _ends_at(self, config: int) -> bool:
        with self._lock:
            automaton = self.automaton
            is_end = automaton.is_accepting(config) and not automaton.row(config).any()
            return is_end and not automaton.special_symbols(config)

    def jump_edge(self, config: int) -> JumpEdge:
        """The bytes that must follow `config` because there is no choice, and where they lead: one edge of the
        compressed automaton. It stops where the output may end or a special token may come."""
        edge = self._jump_edges.get(config)
        if edge is None:
            with self._lock, work_limit(self._limits.work):
                edge = self._jump_edges[config] = JumpEdge(*self.automaton.only_way(config))
        return edge

    def leaves_one_way(self, place: Place) -> bool:
        """Whether there is no choice at a place: the next byte, or the next special token, is known."""
        if place.leaves_one_way is None:
            config = place.config
            is_known = not place.is_end and (self.jump_edge(config).data or self.only_special(config) is not None)
            place.leaves_one_way = bool(is_known)
        return place.leaves_one_way

    def only_special(self, config: int) -> int | None:
        """The special token that must come at `config`, if one must."""
        with self._lock:
            symbols = self.automaton.special_symbols(config)
            if len(symbols) != 1 or self.automaton.is_accepting(config) or self.automaton.row(config).any():
                return None
            return self._special_token(symbols[0])

    def is_end_of_text(self, config: int) -> bool:
        """Whether no ordinary byte can follow: the output ends there, or a special token comes."""
        with self._lock:
            return not self.automaton.row(config).any()

    def spanned(self, text: bytes, config: int) -> Int64s:
        """For each place in `text`, whether a token can span it when `config` reads what follows (see `boundaries`)."""
        spanned = np.zeros(len(text) + 1, np.int64)
        with self._lock, work_limit(self._limits.work):
            automaton, path = self.automaton, self._masking.path
            find_boundaries = automaton.kernels.find_boundaries
            while not find_boundaries(automaton.tables, self.vocabulary.trie, path, text, config, spanned):
                automaton.provide()
        return spanned

    def spans(self, text: bytes, config: int, cuts: Int64s) -> list[tuple[int, int]]:
        """Where tokens may stand in `text`, (start, token), when `config` reads what follows; see `find_spans`."""
        spans = np.empty((MAX_SPANS, 2), np.int64)
        with self._lock, work_limit(self._limits.work):
            automaton, path = self.automaton, self._masking.path
            find_spans = automaton.kernels.find_spans
            while (count := find_spans(automaton.tables, self.vocabulary.trie, path, text, config, cuts, spans)) < 0:
                automaton.provide()
        return [(start, token) for start, token in spans[:count].tolist()]

    def next_bytes(self, config: int) -> list[int]:
        """The bytes that may come next at `config`."""
        with self._lock:
            [following] = self.automaton.row(config).nonzero()
        return list(following.tolist())

    def after(self, config: int, data: bytes) -> int:
        """The configuration behind `data`; 0 if it is not allowed."""
        with self._lock, work_limit(self._limits.work):
            return self.automaton.step_bytes(config, data)

    def shortest_completion(self, config: int, budget: int) -> list[int] | None:
        """Tokens that complete the output from `config`: the fewest bytes, at most `budget` tokens, else None; so, too,
        where it takes too much work to find."""
        with self._lock, work_limit(self._limits.work):
            symbols = self._completion.shortest(config, budget * self.vocabulary.longest)
        if symbols is None:
            return None
        tokens: list[int] = []
        data = bytearray()
        for symbol in [*symbols, END]:
            if 0 <= symbol < FIRST_SPECIAL:
                data.append(symbol)
                continue
            spelled = fewest_tokens(self.vocabulary.trie, bytes(data))
            if spelled is None:
                return None
            tokens += [*spelled, self._special_token(symbol)] if symbol != END else spelled
            data.clear()
        return tokens if len(tokens) <= budget else None

    def _stepped(self, config: int, token: int, data: bytes | None) -> int:
        """The key of the place behind `token`, whose bytes are `data`, where a kernel alone does not say it."""
        vocabulary, automaton = self.vocabulary, self.automaton
        if config < 0:
            return DEAD_END
        if not 0 <= token < vocabulary.size:
            raise ValueError(f"token {token} is outside the vocabulary of {vocabulary.size}")
        if data:
            with work_limit(self._limits.work):
                return automaton.step_bytes(config, data)
        if token in vocabulary.eos_ids and automaton.is_accepting(config):
            return end_of(config)
        with work_limit(self._limits.work):
            for symbol in automaton.special_symbols(config):
                if self._special_token(symbol) == token:
                    return automaton.step_special(config, symbol)
        return DEAD_END

    def _special_token(self, symbol: int) -> int:
        text = self.automaton.program.specials[symbol - FIRST_SPECIAL]
        token = self.vocabulary.special.get(text)
        if token is None:
            raise FormError(f"the grammar asks for the special token {text!r}, which the vocabulary does not have")
        return token

    def _computed(self, place: Place) -> Words:
        words = np.empty(self.vocabulary.num_words, np.uint32)
        config = place.key
        if config < 0:
            words.fill(0)
        else:
            looked = self._masking.look(config, words)
            if looked != DONE:
                with work_limit(self._limits.work):
                    self._masking.compute(config, words, looked)
            automaton = self.automaton
            if automaton.program.specials:
                with work_limit(self._limits.work):
                    _allow(words, map(self._special_token, automaton.special_symbols(config)))
            if automaton.is_accepting(config):
                _allow(words, self.vocabulary.eos_ids)
        words.flags.writeable = False
        return words


def _allow(words: Words, tokens: Iterable[int]) -> None:
    for token in tokens:
        words[token >> 5] |= np.uint32(1 << (token & 31))
