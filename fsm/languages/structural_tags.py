"""`StructuralTags(...)`: free text until a trigger, then a form between tags, then free text again; for tool calls.

`FreeText` alone is text that stops before a marker, for `<think>` blocks. A marker may be a text or a special token.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from stemma.fsm.errors import FormError
from stemma.fsm.languages.json_schema import JSONSchema
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import (
    Characters,
    Choice,
    Concatenation,
    Difference,
    Grammar,
    GrammarSpec,
    Intersection,
    Node,
    Repeat,
    RuleRef,
    Special,
)
from stemma.fsm.syntax.nodes import EMPTY, choice, concat, text

Marker = str | Special


@dataclass(frozen=True)
class Tag:
    """`begin`, then `form`, then `end`."""

    begin: Marker
    form: GrammarSpec
    end: Marker


@dataclass(frozen=True)
class FreeText:
    """Any text in which none of `without` occurs."""

    without: tuple[str, ...] = ()

    def grammar(self) -> Grammar:
        stops = _Stops(self.without)

        def rule(name: Hashable) -> Node:
            assert isinstance(name, str), "states are named by what was read of a marker"
            return choice((EMPTY, *stops.steps(name)))

        return Grammar(RuleRef(""), rule)


@dataclass(frozen=True)
class StructuralTags:
    """Free text with tagged forms in it.

    After a trigger, one of the tags that begin with it must follow; text without a trigger is free. `at_least_one`: the
    text may not end before the first tag; `only_one`: nothing follows after it.
    """

    tags: tuple[Tag, ...]
    triggers: tuple[Marker, ...] = ()
    at_least_one: bool = False
    only_one: bool = False

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> StructuralTags:
        """The OpenAI-compatible form of other engines: `structures` of `begin`, `schema` and `end`, and `triggers`."""
        try:
            tags = tuple(Tag(tag["begin"], JSONSchema(tag["schema"]), tag["end"]) for tag in value["structures"])
            return StructuralTags(tags, tuple(value["triggers"]))
        except (KeyError, TypeError) as error:
            raise FormError(f"a structural tag needs structures (begin, schema, end) and triggers: {error}") from error

    def grammar(self) -> Grammar:
        return _Tagged(self).grammar()


class _Stops:
    """Watches for markers in free text: a state is the longest end of it that begins a marker."""

    def __init__(self, markers: tuple[str, ...]) -> None:
        if any(not marker for marker in markers):
            raise FormError("a trigger or marker cannot be empty")
        if any(not characters.contains(characters.SCALARS, ord(letter)) for marker in markers for letter in marker):
            raise FormError("a lone surrogate is no character; write the whole one")
        self.markers = markers
        self.prefixes = {marker[:length] for marker in markers for length in range(len(marker))}
        self.letters = sorted({letter for marker in markers for letter in marker})

    def steps(self, state: str) -> list[Node]:
        """Every next character that completes no marker, and what is then to be watched for."""
        ways: list[Node] = []
        for letter in self.letters:
            after = state + letter
            if self.completed(after) is None:
                ways.append(concat((text(letter), RuleRef(self.watched(after)))))
        others = characters.complement(characters.union((ord(letter), ord(letter)) for letter in self.letters))
        ways.append(concat((Characters(others), RuleRef(""))))
        return ways

    def completed(self, read: str) -> str | None:
        """The longest marker that `read` ends with."""
        return max((marker for marker in self.markers if read.endswith(marker)), key=len, default=None)

    def watched(self, read: str) -> str:
        return next(
            read[start:] for start in range(len(read) + 1) if read[start:] in self.prefixes or start == len(read)
        )


class _Tagged:
    """The rules of structural tags: ("text", how many tags came, watched), ("tag", trigger) and those of each form."""

    def __init__(self, spec: StructuralTags) -> None:
        if not spec.tags:
            raise FormError("StructuralTags needs at least one tag")
        self.spec = spec
        self.triggers = spec.triggers or tuple(dict.fromkeys(tag.begin for tag in spec.tags))
        for tag in spec.tags:
            if not any(_begins(tag.begin, trigger) for trigger in self.triggers):
                raise FormError(f"no trigger begins the tag {tag.begin!r}; add one")
        self.stops = _Stops(tuple(trigger for trigger in self.triggers if isinstance(trigger, str)))
        self.forms = [tag.form.grammar() for tag in spec.tags]

    def grammar(self) -> Grammar:
        markers = (*self.triggers, *(marker for tag in self.spec.tags for marker in (tag.begin, tag.end)))
        own = (marker.text for marker in markers if isinstance(marker, Special))
        inner = (special for form in self.forms for special in form.specials)
        return Grammar(RuleRef(("text", False, "")), self.rule, tuple(dict.fromkeys((*own, *inner))))

    def rule(self, name: Hashable) -> Node:
        assert isinstance(name, tuple), "rules are named by tuples"
        if name[0] == "text":
            return self.free(*name[1:])
        if name[0] == "tag":
            return self.tagged(name[1])
        return renamed(self.forms[name[1]].rule(name[2]), name[1])

    def free(self, tagged: bool, state: str) -> Node:
        """Free text, `state` being what of a trigger has been read."""
        ways: list[Node] = [EMPTY] if tagged or not self.spec.at_least_one else []
        if tagged and self.spec.only_one:
            return EMPTY
        for letter in self.stops.letters:
            trigger = self.stops.completed(state + letter)
            if trigger is None:
                ways.append(concat((text(letter), RuleRef(("text", tagged, self.stops.watched(state + letter))))))
            else:
                ways.append(concat((text(letter), RuleRef(("tag", trigger)))))
        known = characters.union((ord(letter), ord(letter)) for letter in self.stops.letters)
        ways.append(concat((Characters(characters.complement(known)), RuleRef(("text", tagged, "")))))
        specials = [trigger for trigger in self.triggers if isinstance(trigger, Special)]
        ways += [concat((special, RuleRef(("tag", special)))) for special in specials]
        return choice(ways)

    def tagged(self, trigger: Marker) -> Node:
        """After a trigger: the rest of a tag that begins with it, its form and its end."""
        ways: list[Node] = []
        for index, tag in enumerate(self.spec.tags):
            if not _begins(tag.begin, trigger):
                continue
            rest = text(tag.begin[len(trigger) :]) if isinstance(tag.begin, str) and isinstance(trigger, str) else EMPTY
            form = renamed(self.forms[index].start, index)
            ways.append(concat((rest, form, _marked(tag.end), RuleRef(("text", True, "")))))
        return choice(ways)


def _begins(begin: Marker, trigger: Marker) -> bool:
    if isinstance(begin, str) and isinstance(trigger, str):
        return begin.startswith(trigger)
    return begin == trigger


def _marked(marker: Marker) -> Node:
    return marker if isinstance(marker, Special) else text(marker)


def renamed(node: Node, index: int) -> Node:
    """The same node, calling its rules by a name of their own, so that grammars can stand side by side."""
    if isinstance(node, RuleRef):
        return RuleRef(("form", index, node.rule))
    if isinstance(node, Concatenation):
        return Concatenation(tuple(renamed(part, index) for part in node.parts))
    if isinstance(node, Choice):
        return Choice(tuple(renamed(part, index) for part in node.parts))
    if isinstance(node, Repeat):
        return Repeat(renamed(node.part, index), node.minimum, node.maximum)
    if isinstance(node, Difference | Intersection):
        return type(node)(renamed(node.left, index), renamed(node.right, index))
    return node
