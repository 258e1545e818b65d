"""Strings: from facts to a language of decoded texts, and from there to how JSON spells it.

All algebra (lengths, patterns, formats, what is excluded) happens on decoded characters; only the result is spelled,
each character by itself, so differences and intersections stay exact. Lengths count code points, however
they are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from functools import lru_cache, reduce
from itertools import pairwise

from stemma.fsm.errors import FormError, LimitError
from stemma.fsm.languages.json_schema.facts import (
    Content,
    Format,
    Length,
    NotText,
    Pattern,
    TextFact,
)
from stemma.fsm.languages.json_schema.formats import FORMATS, format_language, wider_language
from stemma.fsm.languages.json_schema.readers import pattern_language
from stemma.fsm.languages.json_schema.values import json_text
from stemma.fsm.languages.regex.tree import Dialect
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import (
    Characters,
    Choice,
    Concatenation,
    Difference,
    Intersection,
    Literal,
    Node,
    Repeat,
    RuleRef,
)
from stemma.fsm.syntax.characters import Ranges
from stemma.fsm.syntax.nodes import ANY_TEXT, NOTHING, both, choice, concat, lengths, of_length, repeat, text, without
from stemma.fsm.syntax.recogniser import Recogniser

RAW: Ranges = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, 0x10FFFF))
BEYOND_ASCII: Ranges = ((0x80, 0xD7FF), (0xE000, 0x10FFFF))
SHORT = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 34: '"', 92: "\\"}
QUOTE = Literal(b'"')
NUM_SAMPLES = 6
LONGEST_SAMPLE = 200
PREFERRED = tuple(map(ord, "aq0_Z "))  # characters that many patterns allow


def _hexadecimal(*digits: str) -> Node:
    """Hexadecimal digits, one position each, in either case."""
    ranges = [characters.union((ord(d), ord(d)) for d in digit.lower() + digit.upper()) for digit in digits]
    return concat(Characters(each) for each in ranges)


_ANY_HEX = "0123456789abcdef"
_BASIC_ESCAPE = choice(
    (_hexadecimal("0123456789abcef", *[_ANY_HEX] * 3), _hexadecimal("d", "01234567", *[_ANY_HEX] * 2))
)
_PAIR = concat((_hexadecimal("d", "89ab", *[_ANY_HEX] * 2), text("\\u"), _hexadecimal("d", "cdef", *[_ANY_HEX] * 2)))
# One code point of any string, in every spelling that JSON has for it; a lone surrogate is none.
ANY_CHARACTER = choice((
    Characters(RAW),
    concat((text("\\"), choice((Characters(characters.union((ord(c), ord(c)) for c in '"\\/bfnrt')),
                                  concat((text("u"), choice((_BASIC_ESCAPE, _PAIR)))))))),
))  # fmt: skip
ANY_STRING = concat((QUOTE, repeat(ANY_CHARACTER, 0, None), QUOTE))


def decoded_language(facts: Many[TextFact]) -> Node:
    """The texts that fulfil all facts."""
    bounds = length_of(facts)
    if bounds is None:
        return NOTHING
    if any(isinstance(fact, Content) for fact in facts):
        raise FormError("JSON inside a text cannot be a name, nor have a length, a pattern or a format")
    wanted = [language_of(fact) for fact in facts if isinstance(fact, (Pattern, Format)) and fact.positive]
    unwanted: list[Node] = [text(fact.text) for fact in facts if isinstance(fact, NotText)]
    unwanted += [language_of(fact) for fact in facts if isinstance(fact, (Pattern, Format)) and not fact.positive]
    listed = next((language for language in wanted if few_texts(language) is not None), None)
    if listed is not None:
        return choice(map(text, kept_texts(few_texts(listed) or [], listed, facts)))
    found: Node = ANY_TEXT
    for language in wanted:
        found = both(found, language)
    return of_length(without(found, choice(unwanted)) if unwanted else found, *bounds)


def few_texts(language: Node) -> list[str] | None:
    """All texts of a language that is written as a list of them."""
    parts = language.parts if isinstance(language, Choice) else (language,)
    return (
        [part.data.decode() for part in parts if isinstance(part, Literal)]
        if all(isinstance(part, Literal) for part in parts)
        else None
    )


def kept_texts(values: list[str], listed: Node, facts: Many[TextFact]) -> list[str]:
    """Those of the texts that a language lists which fulfil all facts."""
    for fact in facts:
        if not isinstance(fact, (Pattern, Format)):
            values = [value for value in values if _fulfils(value, fact)]
        elif not (fact.positive and language_of(fact) is listed):
            few, recogniser = few_texts(language_of(fact)), Recogniser()
            own = None if few is None else set(few)
            values = [
                value
                for value in values
                if (recogniser.matches(language_of(fact), value) if own is None else value in own) == fact.positive
            ]
    return values


def length_of(facts: Many[TextFact]) -> tuple[int, int | None] | None:
    """The lengths that all facts together allow, or None where there is none."""
    own = [fact for fact in facts if isinstance(fact, Length)]
    low = max((fact.minimum for fact in own), default=0)
    high = min((fact.maximum for fact in own if fact.maximum is not None), default=None)
    return None if high is not None and high < low else (low, high)


def language_of(fact: Pattern | Format) -> Node:
    """What a fact speaks of; of a format that is forbidden, more than is ever written of it."""
    if isinstance(fact, Pattern):
        return pattern_language(fact.source, fact.dialect)
    if fact.beside is not None and contradicts(fact.name, fact.beside):
        return ANY_TEXT
    return format_language(fact.name) if fact.positive else wider_language(fact.name)


@lru_cache(maxsize=1024)
def contradicts(name: str, beside: Pattern) -> bool:
    """Whether no text has both a format and the pattern beside it, as where tools write both and mean their pattern."""
    return is_empty(both(pattern_language(beside.source, beside.dialect), wider_language(name)))


@lru_cache(maxsize=4096)
def is_possible(facts: tuple[TextFact, ...]) -> bool:
    """Whether any text fulfils all facts."""
    only = facts[0] if len(facts) == 1 else None
    if isinstance(only, (NotText, Length)):
        return length_of(facts) is not None
    if isinstance(only, Format) and only.beside is None:  # every format has texts, but one of a type may be bounded
        return only.name in FORMATS or format_language(only.name) != NOTHING
    return not is_empty(decoded_language(facts))


def is_empty(language: Node) -> bool:
    """Whether a language holds no text; one too large to tell is taken to hold some."""
    if not has_algebra(language):
        return language == NOTHING
    shortest, longest = lengths(language)
    if longest is not None and shortest > longest:
        return True
    recogniser = Recogniser(limit=4_000)
    try:
        guesses = dict.fromkeys(sample(language, salt) for salt in range(NUM_SAMPLES))
        if any(recogniser.matches(language, guess) for guess in guesses if guess is not None):
            return False
        return is_empty_at_any_length(language) or recogniser.is_empty(language)
    except LimitError:
        return False


def is_empty_at_any_length(language: Node) -> bool:
    """Whether a language holds no text, however often what it repeats may be repeated: then there are few states."""
    try:
        return Recogniser(limit=4_000).is_empty(any_length(language))
    except LimitError:
        return False


def any_length(node: Node) -> Node:
    """At least what a language holds: limits of repeats are taken off, except where texts are taken out."""
    if isinstance(node, Concatenation):
        return concat(map(any_length, node.parts))
    if isinstance(node, Choice):
        return choice(map(any_length, node.parts))
    if isinstance(node, Repeat):
        return repeat(any_length(node.part), min(node.minimum, 1), node.maximum if node.maximum == 1 else None)
    if isinstance(node, Difference):
        return without(any_length(node.left), node.right)
    return both(any_length(node.left), any_length(node.right)) if isinstance(node, Intersection) else node


def start_differently(languages: Many[Node]) -> bool:
    """Whether two of the languages begin with texts that cannot be one, so that nothing is in both."""
    known = sorted(map(prefix, languages))
    return any(not right.startswith(left) for left, right in pairwise(known))


def are_apart(languages: Many[Node]) -> bool:
    """Whether no text is in all of the languages."""
    return start_differently(languages) or is_empty(reduce(both, languages))


def prefix(node: Node) -> str:
    """A text that every text of a language begins with."""
    if isinstance(node, Literal):
        return node.data.decode()
    if isinstance(node, Characters):
        return chr(node.ranges[0][0]) if len(node.ranges) == 1 and node.ranges[0][0] == node.ranges[0][1] else ""
    if isinstance(node, Concatenation):
        found = ""
        for part in node.parts:
            found += prefix(part)
            if not isinstance(part, (Literal, Characters)) or (isinstance(part, Characters) and not prefix(part)):
                break
        return found
    if isinstance(node, Choice):
        known = sorted(map(prefix, node.parts))
        return shared_start(known[0], known[-1]) if known else ""
    if isinstance(node, Repeat):
        return prefix(node.part) if node.minimum else ""
    return prefix(node.left) if isinstance(node, (Difference, Intersection)) else ""


def shared_start(left: str, right: str) -> str:
    size = next((index for index, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    return min(left, right, key=len) if size is None else left[:size]


def sample(node: Node, salt: int) -> str | None:
    """A short text that `node` matches if nothing is excluded from it, another one by `salt`; None if there is none."""
    if isinstance(node, Literal):
        return node.data.decode()
    if isinstance(node, Characters):
        if not node.ranges:
            return None
        low, high = node.ranges[salt % len(node.ranges)]
        return chr(min(high, max(low, PREFERRED[salt % len(PREFERRED)])))
    if isinstance(node, Choice):
        return sample(node.parts[salt % len(node.parts)], salt) if node.parts else None
    if isinstance(node, Repeat):
        times = max(node.minimum, min(salt, 1 if node.maximum is None else node.maximum))
        one = sample(node.part, salt) if times else ""
        return None if one is None or times * len(one) > LONGEST_SAMPLE else one * times
    if isinstance(node, Concatenation):
        parts = [sample(part, salt) for part in node.parts]
        found = "".join(part for part in parts if part is not None)
        return None if None in parts or len(found) > LONGEST_SAMPLE else found
    assert isinstance(node, (Difference, Intersection)), "texts hold no calls"
    return sample(node.left, salt)


def fulfils(value: str, facts: Many[TextFact]) -> bool:
    return all(_fulfils(value, fact) for fact in facts)


def _fulfils(value: str, fact: TextFact) -> bool:
    if isinstance(fact, Length):
        return fact.minimum <= len(value) and (fact.maximum is None or len(value) <= fact.maximum)
    if isinstance(fact, NotText):
        return value != fact.text
    assert not isinstance(fact, Content), "what a text holds is told where its schema is known"
    if isinstance(fact, Pattern):
        return matches(fact.source, value, fact.dialect) == fact.positive
    return Recogniser().matches(language_of(fact), value) == fact.positive


@lru_cache(maxsize=4096)
def matches(source: str, value: str, dialect: Dialect = "ecma") -> bool:
    """Whether a pattern is found in a text."""
    return Recogniser().matches(pattern_language(source, dialect), value)


# Spelling --------------------------------------------------------------------------------------------------------


def string_node(facts: Many[TextFact]) -> Node:
    """The JSON strings whose texts fulfil all facts."""
    bounds = length_of(facts)
    if bounds is not None and all(isinstance(fact, Length) for fact in facts):
        return concat((QUOTE, repeat(ANY_CHARACTER, *bounds), QUOTE))
    return quoted(decoded_language(facts))


def quoted(language: Node) -> Node:
    """The JSON strings of a language of texts."""
    if language == ANY_TEXT:
        return ANY_STRING
    return concat((QUOTE, spelled(language, has_difference(language)), QUOTE))


def spelled(node: Node, strictly: bool) -> Node:
    """How JSON writes the texts of a language.

    `strictly`: one spelling only for what needs no escape, so that no difference is passed by in another spelling.
    """
    if isinstance(node, Literal):
        data = node.data.decode()
        if strictly and any(
            code < 0x20 and code not in SHORT for code in node.data
        ):  # hexadecimal digits have two cases
            return concat(spelled_characters(((ord(c), ord(c)),), strictly) for c in data)
        return Literal(json_text(data)[1:-1].encode())
    if isinstance(node, Characters):
        return spelled_characters(node.ranges, strictly)
    if isinstance(node, Concatenation):
        return concat(spelled(part, strictly) for part in node.parts)
    if isinstance(node, Choice):
        return choice(spelled(part, strictly) for part in node.parts)
    if node is ANY_TEXT:
        return spelled_any(strictly)
    if isinstance(node, Repeat):
        return repeat(spelled(node.part, strictly), node.minimum, node.maximum)
    if isinstance(node, RuleRef):
        return RuleRef(("spelled", node.rule))
    assert isinstance(node, (Difference, Intersection)), "JSON has no special tokens"
    return type(node)(spelled(node.left, strictly), spelled(node.right, strictly))


@lru_cache(maxsize=2)
def spelled_any(strictly: bool) -> Node:
    """Any text, always the same node, so that a program has its states once."""
    return repeat(spelled_characters(characters.SCALARS, strictly), 0, None)


@lru_cache(maxsize=1024)
def spelled_characters(ranges: Ranges, strictly: bool) -> Node:
    ways: list[Node] = []
    raw = characters.intersection(ranges, RAW)
    if raw:
        ways.append(Characters(raw))
    short = [ord(letter) for code, letter in SHORT.items() if characters.contains(ranges, code)]
    if characters.contains(ranges, 47) and not strictly:
        short.append(47)
    escaped: list[Node] = [Characters(characters.union((code, code) for code in short))] if short else []
    control = [code for low, high in characters.intersection(ranges, ((0, 31),)) for code in range(low, high + 1)]
    if control == list(range(32)) and not strictly:
        escaped.append(concat((text("u00"), _hexadecimal("01", _ANY_HEX))))
    else:
        escaped += [concat((text("u00"), _hexadecimal(f"{code >> 4}", f"{code & 15:x}"))) for code in control
                    if code not in SHORT]  # fmt: skip
    if not strictly and characters.intersection(ranges, BEYOND_ASCII) == BEYOND_ASCII:
        escaped.append(concat((text("u"), choice((_BEYOND_BASIC, _PAIR)))))
    if escaped:
        ways.append(concat((text("\\"), choice(escaped))))
    return choice(ways)


_BEYOND_BASIC = choice((
    _hexadecimal("0", "0", "89abcdef", _ANY_HEX), _hexadecimal("0", "123456789abcdef", _ANY_HEX, _ANY_HEX),
    _hexadecimal("123456789abcef", *[_ANY_HEX] * 3), _hexadecimal("d", "01234567", *[_ANY_HEX] * 2),
))  # fmt: skip


def has_difference(node: Node) -> bool:
    if isinstance(node, (Concatenation, Choice)):
        return any(map(has_difference, node.parts))
    if isinstance(node, Repeat):
        return has_difference(node.part)
    if isinstance(node, Intersection):
        return has_difference(node.left) or has_difference(node.right)
    return isinstance(node, Difference)


def has_algebra(node: Node) -> bool:
    if isinstance(node, (Concatenation, Choice)):
        return any(map(has_algebra, node.parts))
    if isinstance(node, Repeat):
        return has_algebra(node.part)
    return isinstance(node, (Difference, Intersection))
