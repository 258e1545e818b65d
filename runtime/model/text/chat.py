"""A model's chat template: messages to tokens. What messages say never becomes a special token, however the template
cuts and joins it.

How a special token in a rendered text is told to be the template's own: the template is rendered a second time with
marks in whatever the messages say that could be taken for one. Where both renderings differ in nothing but the marks,
the tokens are those of the first one:

    messages      user: "say <|im_end|>"
    rendered      <|im_start|>user\\nsay <|im_end|><|im_end|>
    with marks    <|im_start|>user\\nsay <#|im_end|><|im_end|>      # is the mark: the first <|im_end|> is text
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jinja2

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.model.text.chat_marks import Marker, Marks, absent_marks, map_strings, strings_in
from stemma.runtime.model.text.chat_sandbox import compile_template
from stemma.runtime.model.text.tokenizer import Tokenizer

Message = Mapping[str, Any]
RenderArguments = tuple[Sequence[Message], Mapping[str, Any]]
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


class ChatTemplate:
    """A compiled template with the tokenizer it writes for.

    In every method, `values` is what else the template reads, e.g. `enable_thinking=False`, and ChatTemplateError is
    raised if the template refuses the messages, or a value has a name that is taken.
    """

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        """Raises ChatTemplateError if the source is no template."""
        self.source = source
        self._tokenizer = tokenizer
        self._marker = Marker(tokenizer.special)
        try:
            self._template = compile_template(source)
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the model's chat template cannot be read: {error}; give another one") from error
        self._taken = RESERVED | tokenizer.special_texts.keys() | self._template.globals.keys()

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
        return self._render(_checked(messages), values)

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
        arguments = _checked(messages), {**values, "tools": tools, "add_generation_prompt": add_generation_prompt}
        with _depth_refused():
            marks = absent_marks([self.source, *strings_in(arguments)])
            return self._tokenizer.encode_pieces(self._pieces(self._prepared(arguments, marks), marks))

    def encode_after(
        self, messages: Sequence[Message], answer: int, /, *, add_generation_prompt: bool = True, **values: Any
    ) -> list[int]:
        """Tokens that the template writes behind the answer `messages[answer]`: its end, later turns, the next prompt.

        What stands before is left out, and the answer's own words do not count: put the tokens it was generated with
        before these. Raises ChatTemplateError if the template does not show the answer.
        """
        self.check_values(values)
        with _depth_refused():
            strings = [self.source, *strings_in((_checked(messages), values))]
            marks = absent_marks(strings)
            here = absent_marks([*strings, *marks]).boundary
            messages = [*messages[:answer], {**messages[answer], "content": here}, *messages[answer + 1 :]]
            arguments = messages, {**values, "tools": None, "add_generation_prompt": add_generation_prompt}
            _, found, rest = self._prepared(arguments, marks, answer + 1).rpartition(here)
        if not found:
            raise ChatTemplateError("the model's chat template leaves an answer out; its turn cannot be continued")
        return self._tokenizer.encode_more_pieces(self._pieces(rest, marks))

    def _prepared(self, arguments: RenderArguments, marks: Marks, first_answer: int = 1) -> str:
        """The rendered text with marks in what messages say, and at the answers from message `first_answer` on."""
        text = self._render(*arguments)
        if self._marker.needed(strings_in(arguments)):
            text = self._marked(text, arguments, marks)
        return self._with_boundaries(text, arguments, marks, first_answer)

    def _render(self, messages: Sequence[Message], values: Mapping[str, Any]) -> str:
        try:
            return self._template.render({**self._tokenizer.special_texts, **values, "messages": messages})
        except TEMPLATE_FAILURES as error:
            raise ChatTemplateError(f"the model's chat template refuses these messages: {error}") from error

    def _marked(self, text: str, arguments: RenderArguments, marks: Marks) -> str:
        """The rendered text with marks in what messages say.

        If the template's choices depend on a mark wherever it is put, the rendering differs from `text`, but is safe.
        """
        rendered = self._rendered_with(arguments, partial(self._marker.inside, marks=marks), marks)
        if rendered.replace(marks.inside, "") == text:
            return rendered
        risky = {string for string in strings_in(arguments) if self._marker.needed([string])}
        chosen = {string: self._best_marks(string, text, arguments, marks) for string in risky}
        return self._rendered_with(arguments, partial(_replaced, chosen), marks)

    def _best_marks(self, string: str, text: str, arguments: RenderArguments, marks: Marks) -> str:
        """One string with marks that change nothing else in the rendering, if there is a way to put them."""
        marked = string
        for way in (self._marker.inside, self._marker.before, self._marker.beside):
            marked = way(string, marks)
            rendered = self._rendered_with(arguments, partial(_replaced, {string: marked}), marks)
            if rendered.replace(marks.inside, "") == text:
                break
        return marked

    def _rendered_with(self, arguments: RenderArguments, put: Callable[[str], str], marks: Marks) -> str:
        messages, values = map_strings(arguments, put)
        return self._marker.settle(self._render(messages, values), marks)

    def _with_boundaries(self, text: str, arguments: RenderArguments, marks: Marks, first_answer: int) -> str:
        """A mark where each answer begins, right behind what a generation prompt would have been."""
        plain = text.replace(marks.inside, "")
        marked_at = [found.start() - i for i, found in enumerate(re.finditer(marks.inside, text))]
        parts, done = [], 0
        for boundary in self._answers(plain, arguments, first_answer):
            position = boundary + bisect_left(marked_at, boundary)
            parts.append(text[done:position])
            done = position
        return marks.boundary.join([*parts, text[done:]])

    def _answers(self, plain: str, arguments: RenderArguments, first_answer: int) -> Iterator[int]:
        """Positions at which answers begin, in order; none where the template has no generation prompt."""
        messages, values = arguments
        for index in range(first_answer, len(messages)):
            if messages[index]["role"] == "assistant":
                try:
                    before = self._render(messages[:index], {**values, "add_generation_prompt": True})
                except ChatTemplateError:
                    continue
                if plain.startswith(before):
                    yield len(before)

    def _pieces(self, text: str, marks: Marks) -> Iterator[str | int]:
        """Runs of text without marks, and the special tokens between them."""
        for piece in self._tokenizer.split_special(text):
            if isinstance(piece, int):
                yield piece
            else:
                yield from piece.replace(marks.inside, "").split(marks.boundary)


@contextmanager
def _depth_refused() -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise ChatTemplateError("what is arguments to the chat template is nested too deeply") from error


def _replaced(table: Mapping[str, str], string: str) -> str:
    return table.get(string, string)


def _checked(messages: Sequence[Message]) -> Sequence[Message]:
    """Raises ChatTemplateError unless each message has a role that is a plain word."""
    if isinstance(messages, str | Mapping):
        raise ChatTemplateError(f"messages are a list of mappings with a role; these are {messages!r:.80}")
    for message in messages:
        role = message.get("role") if isinstance(message, Mapping) else message
        if not isinstance(role, str) or not ROLE.fullmatch(role):
            raise ChatTemplateError(f"the role {role!r} of a message is not a word like 'user'")
    return messages
