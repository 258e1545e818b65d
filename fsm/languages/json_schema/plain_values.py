"""Values of schemas that say little: a type, a length, a format, bounds, a few texts. Most properties are such, and
their nodes are told at a glance, without expansion; rules among them are named alike in all schemas (`ast.Kept`).

"None" only means "not at a glance": `compiler` then asks in earnest.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from stemma.fsm.languages.json_schema import texts
from stemma.fsm.languages.json_schema.document import Place
from stemma.fsm.languages.json_schema.facts import TYPES, Format, Kind, Length, TextFact
from stemma.fsm.languages.json_schema.formats import FORMATS, OF_TIMES, format_language, time_language
from stemma.fsm.languages.json_schema.number_rules import number_node
from stemma.fsm.languages.json_schema.numbers import surely_possible
from stemma.fsm.languages.json_schema.options import SchemaOptions
from stemma.fsm.languages.json_schema.readers import number_facts
from stemma.fsm.languages.json_schema.values import json_text
from stemma.fsm.syntax.ast import Kept, Node, RuleRef
from stemma.fsm.syntax.nodes import NOTHING, choice, concat, text

FEW_TEXTS = 8  # that stand where they are read; more are a rule, which is built when an output gets there
WORDS = {True: "true", False: "false", None: "null"}
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
Bounds = tuple[tuple[str, type, Any], ...]  # keywords with their values; 1 and 1.0 and true are told apart


@lru_cache(maxsize=64)
def quoted_format(name: str) -> Node:
    """The strings of a format; what makes a leap second are rules, for few texts come there."""
    if name not in OF_TIMES:
        return texts.quoted(format_language(name))
    language = time_language(
        name,
        lambda minute: RuleRef(("leap_minute", minute)),
        lambda hour, minute: RuleRef(("leap_offset", hour, minute)),
    )
    return concat((texts.QUOTE, language, texts.QUOTE))  # JSON writes all characters of times as they are


@lru_cache(maxsize=1024)
def kept_string(facts: tuple[TextFact, ...]) -> Node:
    """The strings that fulfil all facts, none of which says what they hold: a rule that other grammars have too."""
    if not texts.is_possible(facts):
        return NOTHING
    only = facts[0]
    if len(facts) == 1 and isinstance(only, Format) and only.positive:
        return RuleRef(Kept(partial(quoted_format, only.name)))
    return RuleRef(Kept(partial(texts.string_node, facts)))


@lru_cache(maxsize=1024)
def of_length(minimum: int, maximum: int | None) -> Node:
    return kept_string((Length(minimum, maximum),))


@lru_cache(maxsize=64)
def of_format(name: str) -> Node:
    return kept_string((Format(name, True),))


@lru_cache(maxsize=1024)
def bounded_number(named: str, bounds: Bounds, plain: bool, most: int) -> Node | None:
    """The numbers within some bounds, if it takes no more than a look to see that there are any."""
    facts = tuple(number_facts(NOWHERE, {keyword: value for keyword, _, value in bounds}))
    kinds = Kind.INTEGER if named == "integer" else Kind.NUMBER
    if not surely_possible(kinds, facts):
        return None
    return RuleRef(Kept(partial(number_node, kinds, facts, plain, most)))


NOWHERE = Place({}, "", "", 0)  # of bounds that have been checked where they stand


class PlainValues:
    """Those of one schema's options. `types`: the values of each type."""

    def __init__(self, types: dict[str, Node], options: SchemaOptions) -> None:
        self.types = types
        self.options = options

    def node(self, place: Place) -> Node | None:
        """The values of the schema at a place, if it says little."""
        schema, groups = place.schema, place.groups
        if isinstance(schema, bool) or len(groups) > 2:
            return None
        named = schema.get("type")
        if groups == ["type"]:
            return self.types.get(named) if isinstance(named, str) else self._of_types(named)
        if "values" in groups:
            return _texts(schema) if len(groups) == 1 or named == "string" else None
        if len(groups) < 2 or "type" not in groups or not isinstance(named, str):
            return None
        if named == "string":
            if "text_length" in groups:
                return _of_length(schema)
            return self._of_format(schema) if "format" in groups else None
        if named in ("integer", "number") and "bounds" in groups:
            bounds = tuple((keyword, schema[keyword].__class__, schema[keyword])
                           for keyword in BOUNDS if keyword in schema)  # fmt: skip
            return bounded_number(named, bounds, self.options.integers == "plain", self.options.maximum_digits)
        return None

    def _of_types(self, named: Any) -> Node | None:
        if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
            return None
        if not TYPES.keys() >= set(named) or {"integer", "number"} <= set(named):
            return None
        return choice(self.types[name] for name in named)

    def _of_format(self, schema: dict[str, Any]) -> Node | None:
        name = schema.get("format")
        if "x-stemma-format" in schema or not isinstance(name, str):
            return None
        is_enforced = self.options.formats == "enforced" and name in FORMATS
        return of_format(name) if is_enforced else self.types["string"]


def _of_length(schema: dict[str, Any]) -> Node | None:
    minimum, maximum = schema.get("minLength", 0), schema.get("maxLength")
    if minimum.__class__ is not int or minimum < 0:
        return None
    if maximum is not None and (maximum.__class__ is not int or maximum < minimum):
        return None
    return of_length(minimum, maximum) if minimum or maximum is not None else RuleRef("string")


def _texts(schema: dict[str, Any]) -> Node | None:
    """A few texts, or one word."""
    if "const" not in schema:
        values = schema.get("enum")
    elif "enum" in schema:
        return None
    else:
        values = [schema["const"]]
    if not isinstance(values, list) or not 0 < len(values) <= FEW_TEXTS:
        return None
    if all(value.__class__ is str for value in values):
        return choice(text(json_text(value)) for value in values)
    only = values[0]
    return text(WORDS[only]) if len(values) == 1 and (only is None or only.__class__ is bool) else None
