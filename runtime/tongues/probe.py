"""Chats that a template is tried with: every text in them is known, so what stands around it is the template's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.model import ChatTemplate
from stemma.runtime.tongues.marks import Marks
from stemma.runtime.tongues.tongue import IN_SYSTEM, text_parts

QUESTION = "Zq7question"
WORDS = "Zq8words"
THOUGHT = "Zq9thought"
RESULT = "Zq6result"
NAMES = ("probe_first", "probe_second", "probe_third")
KEYS = ("key_one", "key_two")
VALUES = ("Zq1value", "Zq2value")
IDS = ("call_zq0000000001", "call_zq0000000002", "call_zq0000000003")
SHORT_IDS = ("zq0000001", "zq0000002", "zq0000003")
THINKING: tuple[Mapping[str, Any], ...] = (
    {},
    {"enable_thinking": True},
    {"enable_thinking": False},
    {"thinking": True},
)
OPEN_TAG = re.compile(r"(<([\w:]+)>|\[([A-Z]+)\])\s*$")
OPEN_WORD = re.compile(r"<[^<>]+>(\w+)<[^<>]+>$")
BEGUN_TAG = re.compile(r"(<[^<>]*|\[/?[A-Z_]*)$")


def tools() -> list[dict[str, Any]]:
    """The functions of the probe."""
    properties = {key: {"type": "string", "description": f"The {key}"} for key in KEYS}
    parameters = {"type": "object", "properties": properties, "required": []}
    return [
        {"type": "function", "function": {"name": name, "description": "A probe.", "parameters": parameters}}
        for name in NAMES
    ]


class Probe:
    """A template that is tried. ends: texts of the tokens that end an answer."""

    def __init__(self, template: ChatTemplate, marks: Marks, ends: frozenset[str]) -> None:
        self._template = template
        self.marks = marks
        self.ends = ends
        self.wants_text = False
        self.wants_short_ids = False
        self.wants_null = False

    def render(
        self, *messages: Mapping[str, Any], told: bool = True, prompted: bool = False, **values: Any
    ) -> str | None:
        """What stands behind the question; None if the template refuses the chat, or leaves the question out.

        told: with tools. A template that is only for chats with tools is given some in any case.
        """
        chat = [{"role": "user", "content": QUESTION}, *messages]
        for given in (tools(),) if told else (None, tools()):
            try:
                text = self._template.render(chat, add_generation_prompt=prompted, tools=given, **values)
            except ChatTemplateError:
                continue
            return text.rpartition(QUESTION)[2] if QUESTION in text else None
        return None

    @cached_property
    def prompts(self) -> list[str]:
        """Ends of prompts, with the switches for thinking that templates know."""
        made = [self.render(told=False, prompted=True, **values) for values in THINKING]
        return [prompt for prompt in made if prompt is not None]

    @cached_property
    def start(self) -> str:
        """What begins an answer's turn, whatever is in it."""
        words = {"role": "assistant", "content": WORDS}
        texts = [self.render(words, told=False), self.render(words, {"role": "user", "content": "More?"}, told=False)]
        texts += [self.render({**words, "reasoning_content": THOUGHT, "thinking": THOUGHT}, told=False)]
        known = [text for text in texts if text is not None and WORDS in text]
        known += [prompt for prompt in self.prompts if known and prompt[:1] == known[0][:1]]  # some add to the question
        start = common_start([text.partition(WORDS)[0].partition(THOUGHT)[0] for text in known])
        if begun := BEGUN_TAG.search(start):
            start = start[: begun.start()]
        opened = OPEN_TAG.search(start)
        heads = [text.partition(WORDS)[0] for text in known]
        if opened and any(closing(opened[1]) in text for text in heads):
            start = start[: opened.start()]
        opened = OPEN_WORD.search(start)
        if opened and any(re.match(rf"<[^<>]+>{opened[1]}<", text.removeprefix(start)) for text in heads):
            start = start[: opened.start()]
        return start

    def answer(self, *after: Mapping[str, Any], told: bool = False, **fields: Any) -> str | None:
        """An assistant's turn without what begins it, and what follows."""
        text = self.render({"role": "assistant", "content": WORDS, **fields}, *after, told=told)
        return None if text is None or not text.startswith(self.start) else text[len(self.start) :]

    def until_end(self, text: str) -> str:
        """Up to the token that ends an answer."""
        places = [at for end in self.ends if (at := text.find(end)) >= 0]
        return text[: min(places)] if places else text

    def ends_in(self, text: str) -> bool:
        """Whether a token that ends an answer stands in a text."""
        return any(end in text for end in self.ends)

    # Calls ----------------------------------------------------------------
    def calls(self, *arguments: Mapping[str, Any], **fields: Any) -> str | None:
        """A turn that calls one function after the other with these arguments, without words if no content is given."""
        ids = SHORT_IDS if self.wants_short_ids else IDS
        made = [
            {"id": ids[at], "type": "function", "function": {"name": NAMES[at],
             "arguments": json.dumps(given, ensure_ascii=False) if self.wants_text else given}}
            for at, given in enumerate(arguments)
        ]  # fmt: skip
        return self.answer(told=True, **{"content": None if self.wants_null else "", **fields}, tool_calls=made)

    def learns_what_calls_need(self) -> bool:
        """Whether the template takes calls, with the kind of contents, arguments and ids that it wants."""
        for wants in product((False, True), repeat=3):
            self.wants_null, self.wants_text, self.wants_short_ids = wants
            text = self.calls({KEYS[0]: VALUES[0]})
            if text is not None and NAMES[0] in text and VALUES[0] in text:
                return True
        self.wants_null = self.wants_text = self.wants_short_ids = False
        return False

    @property
    def tool_names(self) -> list[str]:
        """Values as which a template may take tools, the usual one first."""
        others = {name for name in self._template.names_read if name.endswith("_tools")}
        return ["tools", *sorted(others), IN_SYSTEM]

    def told(self, name: str) -> str | None:
        """What a template makes of tools that it is given as this value; None if it does not tell them."""
        chat: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
        if name == IN_SYSTEM:
            chat.insert(0, {"role": "system", "content": WORDS, "tools": json.dumps(tools())})
        values: dict[str, Any] = {} if name == IN_SYSTEM else {name: tools()}
        try:
            text = self._template.render(chat, **values)
        except ChatTemplateError:
            return None
        return text if NAMES[0] in text and KEYS[0] in text else None

    def writes_results(self) -> bool:
        """Whether the template writes the result of a call that is in an answer's words."""
        text = self.render({"role": "assistant", "content": WORDS}, {"role": "tool", "content": RESULT}, told=True)
        return text is not None and RESULT in text

    def has_system(self) -> bool:
        """Whether the template takes a system message."""
        return self._shows(WORDS, {"role": "system", "content": WORDS}, {"role": "user", "content": QUESTION})

    def has_parts(self) -> bool:
        """Whether the template shows contents only as lists of parts, as those of models do that see."""
        text, parts = ({"role": "user", "content": content} for content in (QUESTION, text_parts(QUESTION)))
        return not self._shows(QUESTION, text) and self._shows(QUESTION, parts)

    def has_system_of_parts(self) -> bool:
        """`has_system` of such a template."""
        chat = [{"role": "system", "content": text_parts(WORDS)}, {"role": "user", "content": text_parts(QUESTION)}]
        return self._shows(WORDS, *chat)

    def _shows(self, text: str, *chat: Mapping[str, Any]) -> bool:
        try:
            return text in self._template.render(chat)
        except ChatTemplateError:
            return False


def common_start(texts: Sequence[str]) -> str:
    """What all these begin with."""
    least, most = min(texts, default=""), max(texts, default="")
    return next((least[:at] for at, char in enumerate(least) if most[at] != char), least)


def closing(tag: str) -> str:
    """What closes an opening tag."""
    return f"{tag[0]}/{tag[1:]}"


def between(text: str, before: str, after: str) -> str | None:
    """What stands between two known texts, if they come in this order."""
    _, found, rest = text.partition(before)
    middle, also, _ = rest.partition(after)
    return middle if found and also else None


def ids_of(probe: Probe) -> Sequence[str]:
    """The ids that calls of the probe have."""
    return SHORT_IDS if probe.wants_short_ids else IDS
