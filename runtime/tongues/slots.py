"""What stands around the arguments of calls: literal text with slots for the function's name, an id, a number.

<tool_call>\\n{"name": "  NAME  ", "arguments":             then the arguments
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple

from stemma.fsm.syntax import ast, characters
from stemma.fsm.syntax.nodes import concat, repeat
from stemma.runtime.tongues.marks import Marks

ID = re.compile(r"[A-Za-z0-9_.:-]+")
SHORT_ID_LEN = 9
"""Of ids that stand in prompts: what Mistral's templates take, and a sensible length for a model to make up."""


class Slot(Enum):
    """A place in a form. NUMBER counts the calls of an answer."""

    NAME = auto()
    ID = auto()
    NUMBER = auto()


Slots = tuple[str | Slot, ...]


class Found(NamedTuple):
    """Slots that were read: where they end, and what stood in them."""

    end: int
    name: str
    id: str


class Unsure(NamedTuple):
    """More text is needed to tell."""


def write(slots: Slots, name: str, call_id: str, number: int) -> str:
    """The text of these slots."""
    values = {Slot.NAME: name, Slot.ID: call_id, Slot.NUMBER: str(number)}
    return "".join(slot if isinstance(slot, str) else values[slot] for slot in slots)


def node(slots: Slots, name: str, number: int, marks: Marks) -> ast.Node:
    """Their grammar; any id will do."""
    parts: list[ast.Node] = []
    literal = ""
    for slot in slots:
        if slot is Slot.ID:
            parts += [marks.node(literal), repeat(_ID_CHARACTER, SHORT_ID_LEN, SHORT_ID_LEN)]
            literal = ""
        else:
            literal += write((slot,), name, "", number)
    return concat([*parts, marks.node(literal)])


_ID_CHARACTER = ast.Characters(characters.union(((48, 57), (65, 90), (97, 122))))


def read(slots: Slots, text: str, names: Iterable[str], number: int) -> Found | Unsure | None:
    """What stands at the beginning of `text`; None if these slots do not. The longest name wins."""
    found = [_read(slots, text, name, number) for name in
             (sorted(names, key=len, reverse=True) if Slot.NAME in slots else [""])]  # fmt: skip
    return next((each for each in found if each is not None), None)


def _read(slots: Slots, text: str, name: str, number: int) -> Found | Unsure | None:
    at, call_id = 0, ""
    for slot in slots:
        if slot is Slot.ID:
            found = ID.match(text, at)
            if (found.end() if found else at) == len(text):
                return Unsure()
            if found is None:
                return None
            at, call_id = found.end(), found[0]
            continue
        literal = write((slot,), name, "", number)
        given = text[at : at + len(literal)]
        if given != literal:
            return Unsure() if literal.startswith(given) and at + len(given) == len(text) else None
        at += len(literal)
    return Found(at, name, call_id)
