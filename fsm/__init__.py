"""Structured generation: regex, JSON Schema, choices and grammars to token masks and jumps. No torch, no runtime."""

from stemma.fsm.compile import compile
from stemma.fsm.errors import FormError, LimitError
from stemma.fsm.grammar import CompiledGrammar, Forced
from stemma.fsm.matcher import Matcher, fill_masks
from stemma.fsm.pairs import PairEncoding
from stemma.fsm.tables import Limits
from stemma.fsm.vocabulary import Vocabulary

__all__ = [
    "CompiledGrammar", "Forced", "FormError", "LimitError", "Limits", "Matcher", "PairEncoding", "Vocabulary",
    "compile", "fill_masks",
]  # fmt: skip
