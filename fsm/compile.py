"""From what a user asks for to a compiled grammar: any object with a `grammar()` is a form (`Regex`, `JSONSchema`)."""

from __future__ import annotations

from typing import Protocol

from stemma.fsm import ast
from stemma.fsm.grammar import CompiledGrammar
from stemma.fsm.tables import Limits
from stemma.fsm.vocabulary import Vocabulary


class Form(Protocol):
    """What can be said as a grammar; raises a `FormError` for what cannot."""

    def grammar(self) -> ast.Grammar: ...


def compile(form: Form | ast.Grammar, vocabulary: Vocabulary, limits: Limits = Limits()) -> CompiledGrammar:  # noqa: B008
    """`form` ready to constrain the tokens of `vocabulary`. Raises `FormError`, and `LimitError` beyond `limits`."""
    grammar = form if isinstance(form, ast.Grammar) else form.grammar()
    return CompiledGrammar(grammar, vocabulary, limits)
