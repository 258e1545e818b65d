"""Templates that change earlier turns: which turn, and why; those that do not say nothing."""

from __future__ import annotations

from typing import Any

import pytest

from stemma.runtime.tongues.changes import first_change
from stemma.runtime.tongues.history import for_template
from tests.runtime.tongues.making import template, tongue
from tests.runtime.tongues.templates import HERMES, MISTRAL, MUTE, OPENED

USER = {"role": "user", "content": "Q"}
ANSWER = {"role": "assistant", "content": "A"}
LAST_HAS_SYSTEM = """\
{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}
{%- else %}{% set system = '' %}{% set rest = messages %}{% endif %}
{%- for message in rest %}
{%- if message.role == 'user' %}{{- '[Q]' + (system if message is sameas(last_user) or loop.revindex <= 2 else '') }}
{{- message.content + '[/Q]' }}{% else %}{{- message.content + '<|end|>' }}{% endif %}
{%- endfor %}"""


def change(source: str, *messages: dict[str, Any]) -> Any:
    found = tongue(source)
    return first_change(template(source), for_template(messages, [], found), found)


@pytest.mark.parametrize("source", [HERMES, MISTRAL, MUTE])
def test_a_template_that_writes_turns_as_they_were_changes_none(source: str) -> None:
    assert change(source, USER, ANSWER, USER, ANSWER, USER) is None
    assert not tongue(source).changes_turns


def test_a_prompt_that_opens_thoughts_is_named_with_its_answer() -> None:
    found = change(OPENED, USER, ANSWER, USER, ANSWER, USER)
    assert (found.turn, found.role) == (1, "assistant")
    assert "went on with '<think>\\n'" in found.reason
    assert tongue(OPENED).changes_turns


def test_a_mark_that_the_prompt_goes_on_with_is_named_whole() -> None:
    """Where the next turn has another one that begins with the same letters."""
    source = OPENED.replace("<think>\\n'", "<|think|>'").replace("{{- content }}", "{{- '<|say|>' + content }}")
    assert "went on with '<|think|>'" in change(source, USER, ANSWER, USER).reason


def test_thoughts_that_are_left_out_are_named() -> None:
    found = change(MUTE, USER, ANSWER, USER, {**ANSWER, "reasoning_content": "Because."}, USER)
    assert (found.turn, found.reason) == (3, "the template leaves out the thoughts of this answer")


def test_a_system_prompt_that_moves_on_is_named_with_the_turn_that_had_it() -> None:
    found = change(LAST_HAS_SYSTEM, {"role": "system", "content": "S"}, USER, ANSWER, USER)
    assert (found.turn, found.role) == (1, "user")
    assert found.reason == "the template writes this turn otherwise once others follow it"
    assert tongue(LAST_HAS_SYSTEM).changes_turns
