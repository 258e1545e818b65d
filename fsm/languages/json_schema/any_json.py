"""What every schema's grammar has, by options alone: what stands between values, any JSON, and any value of one type.

Programs keep what these rules become (`ast.Common`). It knows no schema.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import NamedTuple

from stemma.fsm.languages.json_schema import numbers, texts
from stemma.fsm.languages.json_schema.options import SchemaOptions
from stemma.fsm.syntax.ast import Characters, Common, Node, RuleRef
from stemma.fsm.syntax.nodes import EMPTY, choice, concat, optional, repeat, text


class Punctuation(NamedTuple):
    """What stands between values, with the white space that is allowed there."""

    space: Node
    comma: Node
    colon: Node


class AnyJSON(NamedTuple):
    """Rules by name: "any" and those named as the types are; "text" is what most names of members are made of."""

    marks: Punctuation
    rules: dict[Hashable, Node]
    common: Common


@lru_cache(maxsize=16)
def any_json(options: SchemaOptions) -> AnyJSON:
    between = repeat(Characters(((9, 10), (13, 13), (32, 32))), 0, options.maximum_space)
    space = between if options.white_space == "flexible" else EMPTY
    after = text(" ") if options.white_space == "spaced" else space
    marks = Punctuation(space, concat((space, text(","), after)), concat((space, text(":"), after)))
    integer = numbers.plain_integer if options.integers == "plain" else numbers.any_integer
    values = [RuleRef(name) for name in ("object", "array", "string", "number")]
    member = concat((RuleRef("string"), marks.colon, RuleRef("any")))
    rules: dict[Hashable, Node] = {
        "any": choice((*values, text("true"), text("false"), text("null"))),
        "object": enclosed("{", any_number_of(member, marks), "}", marks),
        "array": enclosed("[", any_number_of(RuleRef("any"), marks), "]", marks),
        "string": texts.ANY_STRING,
        "number": numbers.any_number(options.maximum_digits),
        "integer": integer(options.maximum_digits),
        "boolean": choice((text("true"), text("false"))),
        "text": texts.spelled_any(strictly=True),
    }
    return AnyJSON(marks, rules, Common(tuple(rules), rules.__getitem__))


def any_number_of(part: Node, marks: Punctuation) -> Node:
    return optional(concat((part, repeat(concat((marks.comma, part)), 0, None))))


def enclosed(opening: str, inner: Node, closing: str, marks: Punctuation) -> Node:
    return concat((text(opening), marks.space, inner, marks.space, text(closing)))
