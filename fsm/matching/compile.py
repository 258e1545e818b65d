"""From what a user asks for to a compiled grammar: any object with a `grammar()` will do (`Regex`, `JSONSchema`)."""

from __future__ import annotations

from stemma.fsm.errors import FormError
from stemma.fsm.kernels.tables import Limits
from stemma.fsm.matching.grammar import CompiledGrammar
from stemma.fsm.matching.place import DEAD_END
from stemma.fsm.matching.special_tokens import settled
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.rule_facts import is_impossible
from stemma.fsm.vocabulary.vocabulary import Vocabulary
from stemma.fsm.work import work_limit


def compile(form: ast.GrammarSpec | ast.Grammar, vocabulary: Vocabulary, limits: Limits = Limits()) -> CompiledGrammar:  # noqa: B008
    """`form` ready to constrain the tokens of `vocabulary`. Raises `FormError`, also for what no text fulfils, and
    `LimitError` beyond `limits`. Front ends look for what never ends themselves; a bare grammar is looked at here."""
    with work_limit(limits.work):
        grammar = form if isinstance(form, ast.Grammar) else form.grammar()
        if isinstance(form, ast.Grammar) and is_impossible(form):
            raise FormError("no text fulfils this grammar: it never ends, or asks for what is empty")
        compiled = CompiledGrammar(settled(grammar, vocabulary), vocabulary, limits)
        if compiled.start == DEAD_END:
            raise FormError("no text fulfils this form: nothing can begin it")
        return compiled
