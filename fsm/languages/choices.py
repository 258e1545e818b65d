"""`Choices(values)`: one of some fixed texts, ten thousand if need be. The automaton shares their beginnings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stemma.fsm.errors import FormError
from stemma.fsm.syntax.ast import Choice, Grammar
from stemma.fsm.syntax.nodes import text
from stemma.fsm.syntax.recogniser import no_rules


@dataclass(frozen=True, slots=True, init=False)
class Choices:
    """Exactly one of `values`."""

    values: tuple[str, ...]

    def __init__(self, values: Iterable[str]) -> None:
        if isinstance(values, str):
            raise FormError("Choices takes a list of texts, not one text")
        object.__setattr__(self, "values", tuple(dict.fromkeys(values)))
        if not self.values:
            raise FormError("Choices needs at least one value")
        for value in self.values:
            if not isinstance(value, str):
                raise FormError(f"a choice must be a text, not {type(value).__name__}; use Literal for other values")
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise FormError(f"the choice {value!r} holds a lone surrogate, which is no character")

    def grammar(self) -> Grammar:
        return Grammar(Choice(tuple(map(text, self.values))), no_rules)
