"""From what a user asks for to a compiled grammar: picks the front end, then hands its grammar to the automaton."""

from __future__ import annotations

from stemma.fsm import ast
from stemma.fsm.grammar import CompiledGrammar
from stemma.fsm.tables import Limits
from stemma.fsm.vocabulary import Vocabulary


def compile(spec: ast.Grammar, vocabulary: Vocabulary, limits: Limits = Limits()) -> CompiledGrammar:  # noqa: B008
    """`spec` ready to constrain the tokens of `vocabulary`."""
    return CompiledGrammar(spec, vocabulary, limits)
