"""The grammar of an answer: thoughts, then words, calls or a form. What it binds begins behind the thoughts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import ANY_TEXT, choice, concat, optional, text, without
from stemma.runtime.tongues.functions import Function
from stemma.runtime.tongues.marks import TAG, free_text
from stemma.runtime.tongues.rules import Rules
from stemma.runtime.tongues.tongue import Standing, Tongue

Form = TypeVar("Form", bound=ast.GrammarSpec)
Otherwise = Literal["nothing", "text"]

MAX_CALLS = 8
"""Calls in one answer, however many are asked for: a model that repeats itself has an end."""


@dataclass(frozen=True)
class AnswerGrammar:
    """Up to `max_calls` calls; or instead of them `otherwise`: a form, free text (which calls may follow), or nothing.

    thoughts:   up to their end, if the prompt leaves the model there or it begins some
    calls:      as the tongue writes them
    free text:  anything in which no call begins
    """

    tongue: Tongue
    functions: tuple[Function, ...] = ()
    max_calls: int = 1
    otherwise: ast.GrammarSpec | Otherwise = "nothing"
    standing: Standing = "answering"

    def grammar(self) -> ast.Grammar:
        """Raises FormError."""
        rules = Rules()
        body = choice([*self._words(rules), *self._calls(rules)])
        return rules.grammar(concat([self._thoughts(), body]))

    def _thoughts(self) -> ast.Node:
        reasoning, marks = self.tongue.reasoning, self.tongue.marks
        if reasoning is None or self.standing == "answering":
            return concat([])
        end = [free_text(reasoning.closes.strip()), marks.node(reasoning.closes + reasoning.gap)]
        if self.standing == "thinking":
            return concat(end)
        return optional(concat([marks.node(reasoning.opens), *end]))

    def _calls(self, rules: Rules) -> list[ast.Node]:
        if not self.functions:
            return []
        return [self.tongue.calls.node(self.functions, self.max_calls, self.tongue.marks, rules)]

    def _words(self, rules: Rules) -> list[ast.Node]:
        """Answers that begin with words."""
        tongue = self.tongue
        if self.otherwise == "nothing":
            return []
        if self.otherwise != "text":
            assert not isinstance(self.otherwise, str)
            return [self._around(rules.add(self.otherwise.grammar()))]
        if not self.functions:
            return [self._around(free_text(tongue.closes.strip()))]
        mark = tongue.calls.mark(tongue.marks)
        if not mark:
            return [self._around(free_text(tongue.closes.strip()))]
        if is_only_first(mark, tongue):
            return [self._around(without(free_text(tongue.closes.strip()), concat([text(mark), ANY_TEXT])))]
        return [concat([self._around(free_text(mark, tongue.closes.strip())), optional(*self._calls(rules))])]

    def _around(self, words: ast.Node) -> ast.Node:
        marks = self.tongue.marks
        return concat([marks.node(self.tongue.opens), words, marks.node(self.tongue.closes)])


def is_only_first(mark: str, tongue: Tongue) -> bool:
    """Whether calls can only begin an answer, as what they begin with is nothing that words could not hold."""
    return not (tongue.marks.inside(mark) or TAG.fullmatch(mark))


def behind_thoughts(form: Form, tongue: Tongue, standing: Standing) -> Form | AnswerGrammar:
    """A form that begins where the answer does, behind the thoughts that there may be."""
    if standing == "answering" and not (tongue.opens or tongue.closes):
        return form
    return AnswerGrammar(tongue, otherwise=form, standing=standing)
