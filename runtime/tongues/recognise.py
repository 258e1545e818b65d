"""The tongue of a chat template, found by what it makes of a probe: a call with a known name and known arguments, a
result, thoughts. No word in the template counts, only what it does with what it is given.

    rendered     ...assistant\\n  <think>\\n  THOUGHT  \\n</think>\\n\\n  WORDS  \\n<tool_call>\\n{"name": "  NAME  ...
    found                        opens              closes, gap            what calls begin with
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.model import ChatTemplate, Tokenizer
from stemma.runtime.tongues.calls import CallForm
from stemma.runtime.tongues.changes import first_change
from stemma.runtime.tongues.history import for_template
from stemma.runtime.tongues.marks import Marks
from stemma.runtime.tongues.named_forms import hermes, taught_form
from stemma.runtime.tongues.probe import QUESTION, THOUGHT, WORDS, Probe, tools
from stemma.runtime.tongues.probing_calls import find_calls
from stemma.runtime.tongues.probing_words import find_words
from stemma.runtime.tongues.tongue import Tongue


def recognise(template: ChatTemplate | None, tokenizer: Tokenizer, ends: Iterable[int] = ()) -> Tongue:
    """What a model's answers are written with. ends: tokens that end an answer, which are no part of it."""
    marks = Marks(frozenset(tokenizer.special))
    if template is None:
        return Tongue(hermes(), marks=marks)
    names = tokenizer.special_names
    probe = Probe(template, marks, frozenset(names[index] for index in ends if index in names))
    words, has_parts = find_words(probe), probe.has_parts()
    calls = find_calls(probe, words)
    told = Told("tools", calls) if calls is not None and probe.told("tools") is not None else _taught(probe, calls)
    found = Tongue(
        calls or (told.form if told is not None else hermes()),
        is_told=told is not None,
        told_as="tools" if told is None else told.name,
        is_written=calls is not None,
        writes_results=probe.writes_results(),
        marks=marks,
        has_text_arguments=probe.wants_text,
        has_short_ids=probe.wants_short_ids,
        has_null_content=probe.wants_null,
        has_system=probe.has_system_of_parts() if has_parts else probe.has_system(),
        has_parts=has_parts,
        **words._asdict(),
    )
    return replace(found, changes_turns=_changes_turns(template, found))


class Told(NamedTuple):
    """As which value a template takes tools, and the form of calls that it teaches."""

    name: str
    form: CallForm


def _taught(probe: Probe, calls: CallForm | None) -> Told | None:
    """Of a template that tells tools and writes no calls."""
    for name in probe.tool_names if calls is None else ():
        text = probe.told(name)
        form = None if text is None else taught_form(probe.marks, text)
        if form is not None:
            return Told(name, form)
    return None


def _changes_turns(template: ChatTemplate, tongue: Tongue) -> bool:
    """Whether the template writes earlier turns of some chat otherwise than it did for their answers."""
    answers = [{"role": "assistant", "content": WORDS}]
    if tongue.reasoning is not None:
        answers.append({**answers[0], "reasoning_content": THOUGHT})
    for answer in answers:
        for before in ([], [{"role": "system", "content": WORDS}] if tongue.has_system else []):
            user = {"role": "user", "content": QUESTION}
            given = for_template([*before, user, answer, user], tools(), tongue)
            with suppress(ChatTemplateError):
                if first_change(template, given, tongue) is not None:
                    return True
    return False
