"""From what a user asks for to a compiled grammar: any object with a `grammar()` is a form (`Regex`, `JSONSchema`)."""

from __future__ import annotations

from typing import Protocol

from stemma.fsm import ast
from stemma.fsm.errors import FormError
from stemma.fsm.grammar import CompiledGrammar
from stemma.fsm.tables import Limits
from stemma.fsm.vocabulary import Vocabulary
from stemma.fsm.work import work_limit


class Form(Protocol):
    """What can be said as a grammar; raises a `FormError` for what cannot."""

    def grammar(self) -> ast.Grammar: ...


def compile(form: Form | ast.Grammar, vocabulary: Vocabulary, limits: Limits = Limits()) -> CompiledGrammar:  # noqa: B008
    """`form` ready to constrain the tokens of `vocabulary`. Raises `FormError`, and `LimitError` beyond `limits`."""
    with work_limit(limits.work):
        grammar = form if isinstance(form, ast.Grammar) else form.grammar()
        missing = [text for text in grammar.specials if text not in vocabulary.special]
        if missing:
            names = ", ".join(missing)
            raise FormError(f"the grammar asks for special tokens that the vocabulary does not have: {names}")
        return CompiledGrammar(grammar, vocabulary, limits)
