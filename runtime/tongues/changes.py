"""Where a template changes earlier turns: what it writes of them in a longer chat is not what the model was given.

asked      ... user 1, prompt of the answer, which opens thoughts ][ thoughts, answer ]
later      ... user 1, answer without thoughts, user 2 ...
                       ^ from here on nothing of it is cached
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.model import ChatTemplate
from stemma.runtime.tongues.history import TemplateInput
from stemma.runtime.tongues.probe import BEGUN_TAG, common_start
from stemma.runtime.tongues.tongue import PARTS, Tongue

SHOWN_LEN = 80


class TurnChange(NamedTuple):
    """The first turn that is not what it was when the model was asked: its place in the chat, its role, and why."""

    turn: int
    role: str
    reason: str


def first_change(
    template: ChatTemplate, given: TemplateInput, tongue: Tongue, values: Mapping[str, Any] | None = None
) -> TurnChange | None:
    """Of a chat that goes on; None if each answer stands behind exactly the prompt that it was an answer to.

    Raises ChatTemplateError if the template refuses the chat.
    """
    told = {"tools": given.tools, **given.values, **(values or {})}
    messages = given.messages
    whole = template.render(messages, add_generation_prompt=False, **told)
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or not index:
            continue
        prompt = _prompt(template, messages[:index], told)
        if prompt is not None and not whole.startswith(prompt):
            return _changed(template, messages[:index], told, whole, prompt)
        thoughts = _thoughts(message, tongue)
        if thoughts and thoughts not in whole[len(prompt or "") :]:
            return TurnChange(index, "assistant", "the template leaves out the thoughts of this answer")
    return None


def _prompt(template: ChatTemplate, messages: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> str | None:
    try:
        return template.render(messages, add_generation_prompt=True, **told)
    except ChatTemplateError:
        return None


def _changed(
    template: ChatTemplate, before: Sequence[Mapping[str, Any]], told: Mapping[str, Any], whole: str, prompt: str
) -> TurnChange:
    same = common_start([whole, prompt])
    for index, message in enumerate(before):
        try:
            until = template.render(before[: index + 1], add_generation_prompt=False, **told)
        except ChatTemplateError:
            continue
        if prompt.startswith(until) and len(until) <= len(same):
            continue
        if len(common_start([until, prompt])) > len(same):
            return TurnChange(index, message["role"], "the template writes this turn otherwise once others follow it")
    begun = BEGUN_TAG.search(same)
    rest = prompt[begun.start() if begun else len(same) :][:SHOWN_LEN]
    reason = f"the prompt of this answer went on with {rest!r}, which the template does not write in earlier turns"
    return TurnChange(len(before), "assistant", reason)


def _thoughts(message: Mapping[str, Any], tongue: Tongue) -> str:
    field = tongue.reasoning.field if tongue.reasoning and tongue.reasoning.field else "reasoning_content"
    if field == PARTS and isinstance(message["content"], list):
        return "".join(part.get("thinking", "") for part in message["content"]).strip()
    return str(message.get(field) or "").strip()
