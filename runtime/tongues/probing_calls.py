"""How a template writes calls, found by a probe. What is found must write the probe's calls as the template did."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from stemma.runtime.tongues.calls import Call, CallForm
from stemma.runtime.tongues.named_forms import with_variants
from stemma.runtime.tongues.probe import KEYS, NAMES, VALUES, WORDS, Probe, between, ids_of
from stemma.runtime.tongues.probing_arguments import find_arguments
from stemma.runtime.tongues.probing_words import WordsFound, without_thoughts
from stemma.runtime.tongues.slots import Slot, Slots

BOTH = dict(zip(KEYS, VALUES, strict=True))
DIGITS = re.compile(r"\d+")


class Again(NamedTuple):
    """What stands between two calls, and the number of the first one, where they are counted."""

    slots: Slots | None
    counts_from: int = 0


class Beginning(NamedTuple):
    """What stands before the first call's name, and between words and calls."""

    text: str
    gap: str


def find_calls(probe: Probe, words: WordsFound) -> CallForm | None:
    """The form of calls; None if the template writes none, or none that can be learned."""
    if not probe.learns_what_calls_need():
        return None
    text = probe.calls(BOTH)
    span = None if text is None else find_arguments(probe, text, NAMES[0])
    if text is None or span is None:
        return None
    last = _last(probe, words, text[span.end :])
    again = _again(probe, words, text[: span.end], last)
    for begins in _beginnings(probe, words, text):
        first = _slots(begins.text + text[text.index(NAMES[0]) : span.begin], probe)
        form = CallForm(span.name, span.arguments, first, again.slots, last, begins.gap, counts_from=again.counts_from)
        if _writes_as_probed(form, probe):
            return with_variants(form, probe.marks)
    return None


def _beginnings(probe: Probe, words: WordsFound, text: str) -> Iterator[Beginning]:
    """Behind words, where the template writes them before calls; else at the beginning of an answer."""
    spoken = probe.calls(BOTH, content=WORDS)
    before = None if spoken is None else between(spoken, WORDS, NAMES[0])
    if spoken is not None and before is not None and not probe.ends_in(before):
        head = without_thoughts(spoken.partition(WORDS)[0], words.reasoning).lstrip()
        if head == words.opens:
            said = before.lstrip()
            said = said.removeprefix(words.closes).lstrip() if words.closes else said
            yield Beginning(said, before[: len(before) - len(before.lstrip())])
    head = without_thoughts(text.partition(NAMES[0])[0], words.reasoning).lstrip("\n")
    if words.opens and words.closes:
        head = head.removeprefix(words.opens + words.closes)
    yield Beginning(head, "")


def _last(probe: Probe, words: WordsFound, rest: str) -> Slots:
    """What stands behind the last call, without what ends any answer."""
    end = probe.until_end(rest)
    if words.closes and not words.opens and end.rstrip().endswith(words.closes):
        end = end.rstrip().removesuffix(words.closes).rstrip()
    return _slots(end, probe)


def _again(probe: Probe, words: WordsFound, one: str, last: Slots) -> Again:
    """From two and three calls in a row."""
    found = [_between(probe, words, number, one, last) for number in (2, 3)]
    first, second = found
    if first is None or second is None or first == second:
        return Again(first)
    made: list[str | Slot] = []
    counts_from = None
    for part, other in zip(first, second, strict=True) if len(first) == len(second) else ():
        if part == other or not (isinstance(part, str) and isinstance(other, str)):
            made.append(part)
            continue
        pairs = list(zip(DIGITS.finditer(part), DIGITS.finditer(other), strict=False))
        differing = [each for each, another in pairs if int(another[0]) == int(each[0]) + 1]
        if len(differing) != 1:
            return Again(None)
        counts_from = int(differing[0][0]) - 1
        made += [part[: differing[0].start()], Slot.NUMBER, part[differing[0].end() :]]
    return Again(tuple(part for part in made if part) or None, counts_from or 0)


def _between(probe: Probe, words: WordsFound, number: int, one: str, last: Slots) -> Slots | None:
    """What stands before the last of so many calls."""
    text = probe.calls(*[BOTH] * number)
    if text is None or not text.startswith(one) or NAMES[number - 1] not in text:
        return None
    for at in range(number - 1):
        span = find_arguments(probe, text, NAMES[at])
        if span is None:
            return None
        text = text[span.end :]
    span = find_arguments(probe, text, NAMES[number - 1])
    if span is None or _last(probe, words, text[span.end :]) != last or probe.ends_in(text[: span.begin]):
        return None
    return _slots(text[: span.begin], probe)


def _slots(text: str, probe: Probe) -> Slots:
    """Text with slots for the names and the ids in it."""
    slots: dict[str, Slot] = dict.fromkeys(NAMES, Slot.NAME) | dict.fromkeys(ids_of(probe), Slot.ID)
    parts = re.split("(" + "|".join(map(re.escape, slots)) + ")", text)
    return tuple(slots.get(part, part) for part in parts if part)


def _writes_as_probed(form: CallForm, probe: Probe) -> bool:
    """Whether the form writes calls as the template did."""
    ids = ids_of(probe)
    for number in (1, 2) if form.again is not None else (1,):
        for arguments in (BOTH, {KEYS[0]: VALUES[0]}, {}):
            text = probe.calls(*[arguments] * number)
            written = form.write([Call(NAMES[at], arguments, ids[at]) for at in range(number)])
            if text is None or not _is_at_the_end(written, probe.until_end(text)):
                return False
    return True


def _is_at_the_end(written: str, text: str) -> bool:
    at = text.rfind(written)
    return at >= 0 and not re.search(r"\w", text[at + len(written) :].replace("</assistant>", ""))
