"""Structured generation: regex, JSON Schema, choices and grammars to token masks and jumps. No torch, no runtime."""

from stemma.fsm.compiled_form import is_compiled  # first: it says where the others are found

# isort: split
from stemma.fsm.errors import FormError, LimitError
from stemma.fsm.kernels.tables import Limits
from stemma.fsm.matching.compile import compile
from stemma.fsm.matching.grammar import CompiledGrammar, Forced
from stemma.fsm.matching.matcher import Matcher, fill_masks
from stemma.fsm.vocabulary.byte_pairs import PairEncoding
from stemma.fsm.vocabulary.vocabulary import Vocabulary

__all__ = [
    "CompiledGrammar", "Forced", "FormError", "LimitError", "Limits", "Matcher", "PairEncoding", "Vocabulary",
    "compile", "fill_masks", "is_compiled",
]  # fmt: skip
