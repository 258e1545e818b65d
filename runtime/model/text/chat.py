"""A model's chat template: messages to tokens. What messages say never becomes a special token, however the template
cuts and joins it.

How a special token in a rendered text is told to be the template's own: the template is rendered with text that knows
which characters the template wrote itself, and a special token is one only if all of it was:

    messages      user: "say <|im_end|>"
    rendered      <|im_start|>user\\nsay <|im_end|><|im_end|>
    own           ^^^^^^^^^^^^^^^^^^^^            ^^^^^^^^^^       the first <|im_end|> is text
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import jinja2

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.model.text.chat_sandbox import compile_template, names_in
from stemma.runtime.model.text.tokenizer import Tokenizer
from stemma.runtime.model.text.traced import Traced, joined, own_spans, plain_text, said, written

Message = Mapping[str, Any]
TEMPLATE_FAILURES = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError
)  # fmt: skip
ROLE = re.compile(r"[A-Za-z0-9_-]{1,64}")
RESERVED = frozenset(
    ("self", "messages", "tools", "add_generation_prompt", "continue_final_message", "tokenize", "conversation",
     "template", "chat_template", "return_tensors", "return_dict")
)  # fmt: skip
"""Names that are taken elsewhere, or mean something on the way to a template: a value of that name would be lost, or
change what is no business of a value's. So are the tokenizer's special texts and the sandbox's functions."""

UNSAID: Mapping[str, Any] = MappingProxyType({"documents": None})
"""What a template is told where nobody says it, as transformers tells it: a template may ask whether it is none."""


class ChatTemplate:
    """A compiled template with the tokenizer it writes for.

    A model may have another template for chats with tools: it is taken where `tools` are given, if only an empty list.
    In every method, `values` is what else the template reads, e.g. `enable_thinking=False`, and ChatTemplateError is
    raised if the template refuses the messages, or a value has a name that is taken.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, tool_source: str | None = None) -> None:
        """tool_source: the template of chats with tools, if it is another. Raises ChatTemplateError if a source is no
        template."""
        self.source = source
        self.tool_source = source if tool_source is None else tool_source
        self._tokenizer = tokenizer
        self._template = _compiled(source)
        self._tool_template = self._template if tool_source is None else _compiled(tool_source)
        self._taken = RESERVED | tokenizer.special_texts.keys() | self._template.globals.keys()

    @cached_property
    def names_read(self) -> frozenset[str]:
        """Names of values that the template, or the one for tools, looks at."""
        return names_in(self.source) | names_in(self.tool_source)

    def check_values(self, names: Iterable[str]) -> None:
        """Raises ChatTemplateError for a name that no value may have."""
        if taken := self._taken.intersection(names):
            raise ChatTemplateError(
                f"{min(taken)} is not the template's to be told: leave it out of the values for the template"
            )

    def render(
        self, messages: Sequence[Message], /, *, add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None, **values: Any,
    ) -> str:  # fmt: skip
        """The text of a chat, to look at. To run it take `encode_chat`, which knows what is text in it."""
        self.check_values(values)
        values = {**values, "tools": tools, "add_generation_prompt": add_generation_prompt}
        with _depth_refused():
            return plain_text(self._render(_traced(messages), values))

    def encode_chat(
        self, messages: Sequence[Message], /, *, add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None, **values: Any,
    ) -> list[int]:  # fmt: skip
        """Tokens of a chat; special tokens in it are the template's own only.

        The tokens of a chat that ends with a generation prompt begin those of the same chat with the answer and more
        turns, if the template writes the same text there: an answer is encoded apart from what stands before it, as
        it was when it was generated.
        """
        self.check_values(values)
        values = {**values, "tools": tools, "add_generation_prompt": add_generation_prompt}
        with _depth_refused():
            traced = _traced(messages)
            text = self._render(traced, values)
            return self._tokenizer.encode_pieces(self._pieces(text, 0, self._answers(text, traced, values)))

    def encode_open(
        self, messages: Sequence[Message], /, *, tools: Sequence[Mapping[str, Any]] | None = None, **values: Any
    ) -> list[int]:
        """Tokens of a chat whose last message goes on: nothing stands behind its text.

        Raises ChatTemplateError if the template does not show that text.
        """
        self.check_values(values)
        values = {**values, "tools": tools, "add_generation_prompt": False}
        with _depth_refused():
            traced = _traced(messages)
            mark = self.absent_word(messages)
            traced[-1]["content"] = _marked(traced[-1].get("content"), mark)
            text = self._render(traced, values)
            end = text.rfind(mark)
            if end < 0:
                raise ChatTemplateError("the model's chat template leaves the last message out; it cannot go on")
            answers = self._answers(text, traced, values)
            return self._tokenizer.encode_pieces(self._pieces(text[:end], 0, answers))

    def encode_after(
        self, messages: Sequence[Message], mark: str, rest: str = "", /, *, add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None, **values: Any,
    ) -> list[int]:  # fmt: skip
        """Tokens that the template writes behind an answer: its end, later turns, the next prompt.

        mark: stands in the answer, in place of its words or in its last call, and nowhere else (`absent_word`). rest:
        what of the answer the template writes behind the mark. What stands before is left out: put the tokens that the
        answer was generated with before these. Raises ChatTemplateError if the template does not show the answer.
        """
        self.check_values(values)
        values = {**values, "tools": tools, "add_generation_prompt": add_generation_prompt}
        with _depth_refused():
            traced = _traced(messages)
            answer = max((at for at, message in enumerate(traced) if mark in _as_json(message)), default=-1)
            text = self._render(traced, values)
            begin = text.rfind(mark) + len(mark)
            if answer < 0 or begin < len(mark) or not text.startswith(rest, begin):
                raise ChatTemplateError("the model's chat template leaves an answer out; its turn cannot be continued")
            answers = self._answers(text, traced, values, answer + 1)
            return self._tokenizer.encode_more_pieces(self._pieces(text, begin + len(rest), answers))

    def absent_word(self, messages: Sequence[Message]) -> str:
        """A word that neither the template nor the messages have, to mark a place with."""
        with _depth_refused():
            text = self.source + self.tool_source + _as_json(messages)
        return next(word for number in itertools.count() if (word := f"zq{number}zq") not in text)

    def _render(self, messages: Sequence[Message], values: Mapping[str, Any]) -> Traced:
        try:
            special = written(self._tokenizer.special_texts)
            template = self._template if values["tools"] is None else self._tool_template
            return joined([template.render({**UNSAID, **special, **said(values), "messages": messages})])
        except TEMPLATE_FAILURES as error:
            raise ChatTemplateError(f"the model's chat template refuses these messages: {error}") from error

    def _answers(
        self, text: str, messages: Sequence[Message], values: Mapping[str, Any], first: int = 1
    ) -> Iterator[int]:
        """Positions at which answers begin, in order, from message `first` on: right behind what a generation prompt
        would have been; none where the template has no generation prompt."""
        for index in range(first, len(messages)):
            if messages[index]["role"] == "assistant":
                try:
                    before = self._render(messages[:index], {**values, "add_generation_prompt": True})
                except ChatTemplateError:
                    continue
                if text.startswith(before):
                    yield len(before)

    def _pieces(self, text: Traced, begin: int, boundaries: Iterable[int]) -> Iterator[str | int]:
        """Runs of text from `begin` on, cut at the boundaries, and the special tokens between them."""
        cuts = sorted(cut for cut in set(boundaries) if begin < cut < len(text))
        for first, last in pairwise([begin, *cuts, len(text)]):
            yield from self._tokenizer.split_special(plain_text(text[first:last]), own_spans(text[first:last]))


def _compiled(source: str) -> jinja2.Template:
    try:
        return compile_template(source)
    except jinja2.TemplateError as error:
        raise ChatTemplateError(f"the model's chat template cannot be read: {error}; give another one") from error


@contextmanager
def _depth_refused() -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise ChatTemplateError("what is given to the chat template is nested too deeply") from error


def _traced(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages whose texts are not the template's own. Roles are: they are words, of which it may make tokens."""
    return [said(message) | {"role": written(message["role"])} for message in _checked(messages)]


def _marked(content: Any, mark: str) -> Any:
    """A content, text or parts, with a mark behind it."""
    if isinstance(content, list) and content:
        return [*content[:-1], {**content[-1], "text": Traced(str(content[-1]["text"]) + mark)}]
    return Traced(str(content or "") + mark)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _checked(messages: Sequence[Message]) -> Sequence[Message]:
    """Raises ChatTemplateError unless each message has a role that is a plain word."""
    if isinstance(messages, str | Mapping):
        raise ChatTemplateError(f"messages are a list of mappings with a role; these are {messages!r:.80}")
    for message in messages:
        if not isinstance(message, Mapping):
            raise ChatTemplateError(f"a message is a mapping with a role; this is {message!r:.80}")
        role = message.get("role")
        if not isinstance(role, str) or not ROLE.fullmatch(role):
            raise ChatTemplateError(f"the role {role!r} of a message is not a word like 'user'")
    return messages
