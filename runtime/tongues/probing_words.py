"""What stands around an answer's words and thoughts, found by a probe."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from stemma.runtime.tongues.probe import KEYS, NAMES, OPEN_TAG, THOUGHT, VALUES, WORDS, Probe, between, closing
from stemma.runtime.tongues.tongue import PARTS, Reasoning, thoughtful

FIELDS = ("reasoning_content", "reasoning", "thinking", PARTS)
WORD_IN_MARKS = re.compile(r"<[^<>]+>(\w+)<[^<>]+>")
EMPTY_PAIR = re.compile(r"\s*(<([\w:]+)>)\s*(</\2>)(\s*)$")
CANDIDATES = ("<think>", "[THINK]", "<thinking>", "<reasoning>")
"""What thoughts may be opened by where a template only takes them out of the words."""

USUAL_GAP = "\n\n"


class WordsFound(NamedTuple):
    """Fields of a tongue."""

    reasoning: Reasoning | None
    opens: str
    closes: str


def find_words(probe: Probe) -> WordsFound:
    """Of a template that refuses the probe, nothing."""
    said = probe.answer()
    if said is None or WORDS not in said:
        return WordsFound(None, "", "")
    head, _, tail = said.partition(WORDS)
    reasoning = _written_thoughts(probe) or _thoughts_left_out(probe) or _empty_thoughts(probe)
    opens = without_thoughts(head, reasoning).lstrip()
    if reasoning is not None and opens.strip() == reasoning.opens:  # thoughts that are never closed
        opens = ""
    if reasoning is not None:
        reasoning = replace(reasoning, gap=reasoning.gap.removesuffix(opens))
    if not _goes_on_from_prompts(probe, reasoning):
        return WordsFound(reasoning, "", "")
    return WordsFound(reasoning, opens, probe.until_end(tail).strip())


def _goes_on_from_prompts(probe: Probe, reasoning: Reasoning | None) -> bool:
    """Whether an answer in a chat begins where a prompt ends."""
    rest = probe.prompts[0].removeprefix(probe.start).strip() if probe.prompts else ""
    known = () if reasoning is None else (reasoning.opens, reasoning.closes)
    return not rest or any(rest.startswith(mark) for mark in known)


def without_thoughts(head: str, reasoning: Reasoning | None) -> str:
    """What stands before words or calls, without thoughts that are empty."""
    if reasoning is not None and reasoning.closes in head:
        head = head.rpartition(reasoning.closes)[2]
    return head


def _written_thoughts(probe: Probe) -> Reasoning | None:
    """Of a template that writes the thoughts of a message, before words or only before calls."""
    for field in FIELDS:
        spoken = probe.answer(**thoughtful(field, THOUGHT, WORDS))
        called = probe.calls({KEYS[0]: VALUES[0]}, **thoughtful(field, THOUGHT, ""))
        for text, behind_it in ((spoken, WORDS), (called, NAMES[0])):
            found = None if text is None else between(text, THOUGHT, behind_it)
            if text is None or found is None:
                continue
            opens, behind = text.partition(THOUGHT)[0].strip(), found.lstrip()
            closes = _closing_mark(probe, opens, behind)
            if opens and closes and '"type"' not in opens.replace("'", '"'):  # parts that were printed as they are
                gap = behind[len(closes) :] if behind_it == WORDS else ""
                return Reasoning(opens, closes, gap, field, excludes_words=_excludes_words(probe, field))
    return None


def _excludes_words(probe: Probe, field: str) -> bool:
    """Whether a template takes thoughts beside calls, and words beside calls, but not both."""
    called = [probe.calls({KEYS[0]: VALUES[0]}, **thoughtful(field, THOUGHT, words)) for words in ("", WORDS)]
    return called[0] is not None and called[1] is None


def _closing_mark(probe: Probe, opens: str, behind: str) -> str:
    """A token, a tag, or a word between two of them if the opening is one."""
    found, opened = WORD_IN_MARKS.match(behind), WORD_IN_MARKS.fullmatch(opens)
    if found and opened and found[1] == opened[1]:
        return found[0]
    return probe.marks.first(behind)


def _empty_thoughts(probe: Probe) -> Reasoning | None:
    """Of a template that writes thoughts of no message, but that there were none."""
    head = (probe.answer() or "").partition(WORDS)[0]
    found = EMPTY_PAIR.match(head)
    return None if found is None else Reasoning(found[1], found[3], found[4], None)


def _thoughts_left_out(probe: Probe) -> Reasoning | None:
    """Of a template that opens thoughts in the prompt, or takes them out of earlier words."""
    opened = [found[1] for prompt in probe.prompts if (found := OPEN_TAG.search(prompt.removeprefix(probe.start)))]
    for tag in (*opened, *CANDIDATES):
        close = closing(tag)
        words = f"{tag}{THOUGHT}{close}{WORDS}"
        text = probe.render({"role": "assistant", "content": words}, {"role": "user", "content": "More?"}, told=False)
        is_left_out = text is not None and WORDS in text and THOUGHT not in text
        if is_left_out or (tag in opened and any(close in prompt for prompt in probe.prompts)):
            return Reasoning(tag, close, USUAL_GAP, None)
    return None
