"""The language in which a template writes arguments, found by known keys and values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from stemma.runtime.tongues.functions import JSON_TYPES, Arguments
from stemma.runtime.tongues.gemma_arguments import QUOTE, GemmaArguments
from stemma.runtime.tongues.json_arguments import JsonArguments
from stemma.runtime.tongues.keyword_arguments import KeywordArguments
from stemma.runtime.tongues.probe import KEYS, NAMES, VALUES, Probe, common_start
from stemma.runtime.tongues.value_arguments import Middle, ValueArguments, Wrap

SAMPLES: Mapping[str, Any] = {
    "string": "Zq3value", "number": 3, "boolean": True, "null": None, "array": [7, True], "object": {"a": None}
}  # fmt: skip
WRAPPED = "<>&\n\"'"
BOUNDARIES = "<\n[]{("


class Span(NamedTuple):
    """Where arguments stand in a text, the language they are in, and what it is called."""

    begin: int
    end: int
    arguments: Arguments
    name: str


def find_arguments(probe: Probe, text: str, name: str) -> Span | None:
    """Of the call of this function, which has both keys; None if they are in no known language."""
    key = text.find(KEYS[0])
    name_end = text.rfind(name, 0, key) + len(name)
    if key < 0 or name_end < len(name):
        return None
    return (
        _json(probe, text, name_end, key)
        or _gemma(probe, text, name_end)
        or _keywords(probe, text, name_end)
        or _values(probe, text, name_end)
    )


def _json(probe: Probe, text: str, begin: int, key: int) -> Span | None:
    brace = text.rfind("{", begin, key)
    try:
        value, length = json.JSONDecoder().raw_decode(text[brace:]) if brace >= 0 else (None, 0)
    except ValueError:
        return None
    if value != dict(zip(KEYS, VALUES, strict=True)):
        return None
    accented = probe.calls({KEYS[0]: "\u00e9"})
    form = JsonArguments("spaced" if ", " in text[brace : brace + length] else "compact",
                         is_ascii=accented is not None and "\u00e9" not in accented)  # fmt: skip
    return Span(brace, brace + length, form, "json")


def _gemma(probe: Probe, text: str, begin: int) -> Span | None:
    nothing = probe.calls({KEYS[0]: None})
    form = GemmaArguments("null" if nothing is not None and f"{KEYS[0]}:null" in nothing else "None")
    written = form.write(dict(zip(KEYS, VALUES, strict=True)))
    at = text.find(written, begin) if QUOTE in text else -1
    return Span(at, at + len(written), form, "gemma") if at >= 0 else None


def _keywords(probe: Probe, text: str, begin: int) -> Span | None:
    written = KeywordArguments().write(dict(zip(KEYS, VALUES, strict=True)))
    if not text.startswith(written, begin):
        return None
    nested = probe.calls({KEYS[0]: SAMPLES["object"]})
    is_json = nested is not None and json.dumps(SAMPLES["object"]) in nested
    return Span(begin, begin + len(written), KeywordArguments(is_json), "keywords")


def _values(probe: Probe, text: str, begin: int) -> Span | None:
    """Keys and values in their order, with the same marks around each."""
    places = []
    end = begin
    for each in (KEYS[0], VALUES[0], KEYS[1], VALUES[1]):
        at = text.find(each, end)
        if at < 0:
            return None
        places.append(text[end:at])
        end = at + len(each)
    before, middle, joint, rest = *(places[index] for index in (0, 1, 2)), text[end:]
    opener = common_start([before[::-1], joint[::-1]])[::-1]
    while opener and opener[0] not in BOUNDARIES:
        opener = opener[1:]
    closer = joint.removesuffix(opener)
    if not (opener and middle and closer and rest.startswith(closer)):
        return None
    head = before.removesuffix(opener)
    empty = _empty(probe, rest.removeprefix(closer), head)
    if empty.startswith(head):  # a part of what stands before any arguments
        begin, head, empty = begin + len(head), "", empty.removeprefix(head)
    form = ValueArguments(head, opener, _middles(probe, closer, middle), closer, empty, _wrap(probe, middle, closer))
    return Span(begin, end + len(closer), form, "values")


def _wrap(probe: Probe, middle: str, closer: str) -> Wrap | None:
    """What stands around texts with some characters."""
    found = _around(probe, middle, closer, WRAPPED)
    if found is None:
        return None
    opens, closes = found
    return Wrap(opens, closes, "".join(char for char in WRAPPED if _around(probe, middle, closer, char) == found))


def _around(probe: Probe, middle: str, closer: str, characters: str) -> tuple[str, str] | None:
    value = f"Zq4{characters}value"
    written = (probe.calls({KEYS[0]: value}) or "").partition(KEYS[0] + middle)[2]
    opens, found, behind = written.partition(value)
    closes = behind.partition(closer)[0]
    return (opens, closes) if found and opens and closes else None


def _empty(probe: Probe, tail: str, head: str) -> str:
    """What stands in place of no arguments."""
    text, end = probe.calls({}), probe.until_end(tail)
    rest = "" if text is None else probe.until_end(text.rpartition(NAMES[0])[2])
    return rest.removesuffix(end) if rest.endswith(end) and len(rest) > len(end) else head


def _middles(probe: Probe, closer: str, middle: str) -> tuple[Middle, ...]:
    """What stands between a key and a value, and how that is written, by the value's type."""
    found = {}
    for kind, value in SAMPLES.items():
        text = probe.calls({KEYS[0]: value})
        raw = "" if text is None else text.partition(KEYS[0])[2].partition(closer)[0]
        plain = value if isinstance(value, str) else json.dumps(value)
        for written, is_python in ((plain, False), (str(value), True)):
            if raw.endswith(written) and kind not in found:
                found[kind] = Middle(kind, raw.removesuffix(written), is_python)
    usual = found.get("number", Middle("number", middle))
    return tuple(found.get(kind, Middle(kind, usual.text)) for kind in JSON_TYPES)
