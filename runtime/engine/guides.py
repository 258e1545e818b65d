"""Grammars for a model's vocabulary: compiled in the caller's thread, the recent ones remembered."""

from __future__ import annotations

import codecs
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from stemma.fsm import CompiledGrammar, FormError, Matcher, PairEncoding, Vocabulary, ast, compile
from stemma.runtime.core.trouble import typed
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import LoadedModel, Tokenizer

MAX_COMPILED = 256


class GrammarSpec(Protocol):
    """What says how an output must look: stemma.fsm's Regex, JSONSchema, Choices, EBNF, Lark, StructuralTags."""

    def grammar(self) -> ast.Grammar:
        """Its grammar. Raises FormError if it cannot be read or enforced."""

    def __hash__(self) -> int:
        """Equal specs are compiled once."""


class Guides:
    """Makes the guides of one model. Safe to use from any thread."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._compiled: OrderedDict[GrammarSpec, CompiledGrammar] = OrderedDict()

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's tokens as the automaton sees them, made on first use."""
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = make_vocabulary(self._loaded.tokenizer, self._loaded.generation.eos_ids)
            return self._vocabulary

    def guide(self, spec: GrammarSpec) -> Matcher:
        """A guide at the beginning of its output. Raises InvalidRequest if the spec cannot be enforced."""
        return Matcher(self._compile(spec))

    def _compile(self, spec: GrammarSpec) -> CompiledGrammar:
        with self._lock:
            if spec in self._compiled:
                self._compiled.move_to_end(spec)
                return self._compiled[spec]
        try:
            compiled = compile(spec, self.vocabulary)
        except FormError as error:
            raise InvalidRequest(f"the grammar cannot be used: {error}", "grammar") from error
        except RecursionError as error:
            raise InvalidRequest("the grammar is nested too deeply", "grammar") from error
        except Exception as error:  # of a grammar of the caller's own, or of how one is compiled
            raise typed(error) from error
        with self._lock:
            self._compiled[spec] = compiled
            while len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
        return compiled


def make_vocabulary(tokenizer: Tokenizer, eos_ids: Sequence[int]) -> Vocabulary:
    """A model's tokens as the automaton sees them."""

    def tokenize(data: bytes) -> list[int]:
        """The model's own tokens of these bytes; of a character that is not whole at the end, none."""
        return tokenizer.encode_continuation(codecs.getincrementaldecoder("utf-8")().decode(data))

    def begins_piece(data: bytes) -> bool:
        return tokenizer.begins_piece(data.decode())

    added = tuple(text.encode() for text in tokenizer.added)
    pairs = PairEncoding(begins_piece, tokenizer.takes_whole_pieces, added) if tokenizer.joins_pairs else None
    return Vocabulary(tokenizer.vocabulary(), tokenizer.special, eos_ids, tokenize, pairs)
