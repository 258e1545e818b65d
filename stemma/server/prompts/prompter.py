"""Messages to the tokens of a prompt: the chat template, tools, and earlier answers as they were generated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from stemma.runtime.errors import ChatTemplateError, PromptTooLong
from stemma.runtime.model import LoadedModel, ModelText
from stemma.runtime.tongues.changes import TurnChange, first_change
from stemma.runtime.tongues.history import TemplateInput, for_template
from stemma.runtime.tongues.tongue import Standing, Tongue, prompt_end
from stemma.server.http.errors import bad_request
from stemma.server.prompts.readings import Readings
from stemma.server.prompts.tool_text import content_text, message_values, tool_values
from stemma.server.prompts.turns import TurnMemory
from stemma.server.wire.chat import Message
from stemma.server.wire.tools import Tool

Ending = Literal["prompt", "closed", "open"]
"""How a chat's tokens end: by what the next answer begins with, by the last message's end, or inside that message."""


class ChatPrompt(NamedTuple):
    """A prompt twice. plain: encoded from text. tokens: to be run, with earlier answers as they were generated."""

    plain: list[int]
    tokens: list[int]


class ChatPrompter:
    """Writes prompts for one model. Any thread may use it."""

    def __init__(self, loaded: LoadedModel | ModelText, tongue: Tongue, turns: TurnMemory) -> None:
        self._loaded = loaded
        self.tongue = tongue
        self._turns = turns
        self.readings = Readings(loaded)
        self._longest_token = max((len(data) for data in loaded.tokenizer.vocabulary() if data), default=1)
        self._special = loaded.tokenizer.special_names
        self.shown = [loaded.tokenizer.special[text] for text in sorted(tongue.shown)]
        """Special tokens that answers are read by."""

    @property
    def names_read(self) -> frozenset[str]:
        """What the chat template looks at besides the chat."""
        template = self._loaded.chat_template
        return frozenset() if template is None else template.names_read

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        namespace: str,
        values: Mapping[str, Any] | None = None,
        ending: Ending = "prompt",
    ) -> ChatPrompt:
        """The prompt of the next answer. Raises ApiError or PromptTooLong."""
        plain = self.encode(messages, tools, values, ending)
        return ChatPrompt(plain, self._spliced(plain, messages, tools, namespace, values or {}))

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        values: Mapping[str, Any] | None = None,
        ending: Ending = "prompt",
    ) -> list[int]:
        """Tokens of a chat, from its text alone."""
        values, template = values or {}, self._loaded.chat_template
        if not messages:
            raise bad_request("messages is empty", "messages")
        if template is None:
            raise bad_request(f"{self._loaded.name} has no chat template: use /v1/completions", "messages")
        try:
            template.check_values(values)
        except ChatTemplateError as error:
            raise bad_request(str(error), "chat_template_kwargs") from error
        self.check_length(sum(len(content_text(message.content)) for message in messages), "messages")
        if (read := self.readings.find(*of_chat(messages, tools, values, ending))) is not None:
            return read
        given = self.for_template(messages, tools)
        try:
            told = {"tools": given.tools, **given.values, **values}
            if ending == "open":
                return template.encode_open(given.messages, **told)
            return template.encode_chat(given.messages, add_generation_prompt=ending == "prompt", **told)
        except ChatTemplateError as error:
            raise bad_request(str(error), "messages") from error

    def for_template(self, messages: Sequence[Message], tools: Sequence[Tool]) -> TemplateInput:
        """What the chat template is given. Raises ApiError for arguments that are no JSON."""
        try:
            return for_template(message_values(messages), tool_values(tools), self.tongue)
        except ChatTemplateError as error:
            raise bad_request(str(error), "messages[].tool_calls[].function.arguments", "invalid_value") from error

    def first_change(
        self, messages: Sequence[Message], tools: Sequence[Tool], values: Mapping[str, Any]
    ) -> TurnChange | None:
        """Where the template writes earlier turns otherwise than when the model was asked."""
        template = self._loaded.chat_template
        if template is None:
            return None
        try:
            return first_change(template, self.for_template(messages, tools), self.tongue, values)
        except ChatTemplateError:
            return None

    def next_beginning(
        self, messages: Sequence[Message], tools: Sequence[Tool], namespace: str, values: Mapping[str, Any]
    ) -> list[int]:
        """What the prompt of the next turn will begin with, whatever the user says in it, or the calls of the last
        answer result in. Raises ApiError."""
        one, other = (
            self.prompt([*messages, *_next(messages[-1], text)], tools, namespace, values).tokens for text in ("a", "b")
        )
        return one[: next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), 0)]

    def standing(self, prompt: Sequence[int]) -> Standing:
        """Where a prompt leaves the model: in thoughts, behind them, or free to begin some."""
        return self.tongue.standing(prompt_end(prompt, self._loaded.tokenizer))

    def encode_text(self, text: str) -> list[int]:
        """Tokens of a plain prompt. Raises PromptTooLong."""
        self.check_length(len(text), "prompt")
        read = self.readings.find(text)
        return self._loaded.tokenizer.encode_prompt(text) if read is None else read

    def check_length(self, num_characters: int, param: str) -> None:
        """Raises PromptTooLong for a text that cannot fit whatever its tokens are, before it is encoded."""
        longest = self.max_characters
        if num_characters > longest:
            told = f"{param} has {num_characters} characters, of which no more than {longest} can fit"
            raise PromptTooLong.beyond(self._loaded.config.context_length, told, param)

    @property
    def max_characters(self) -> int:
        """Of a text that may fit into the context."""
        return self._loaded.config.context_length * self._longest_token

    def remember(self, prompt: ChatPrompt, namespace: str, answer: str, key: str, tokens: Sequence[int]) -> list[int]:
        """Keep an answer; returns the tokens of prompt and answer as they were run.

        answer: its whole text as generated. key: `answer_key` of what the client was given.
        """
        ran = [*prompt.tokens, *self._as_said(answer, tokens)]
        self._turns.remember(namespace, prompt.plain, key, ran)
        return ran

    def _as_said(self, answer: str, tokens: Sequence[int]) -> list[int]:
        """The generated tokens without what is no part of the answer: end tokens, stop strings and repeated calls that
        were cut."""
        tokenizer = self._loaded.tokenizer
        pieces = [(token, data) for token in tokens if (data := self._data(token)) is not None]
        said = b"".join(data for _, data in pieces)
        if said.decode("utf-8", "replace") == answer:
            return [token for token, _ in pieces]
        wanted = answer.encode()
        while not wanted.startswith(said):
            said = said[: len(said) - len(pieces.pop()[1])]
        rest = wanted[len(said) :].decode("utf-8", "replace")
        return [*(token for token, _ in pieces), *tokenizer.encode_more_template(rest)]

    def _data(self, token: int) -> bytes | None:
        """What a token is in an answer's text."""
        data = self._loaded.tokenizer.token_bytes(token)
        is_shown = data is None and token in self.shown and token not in self._loaded.generation.eos_ids
        return self._special[token].encode() if is_shown else data

    def _spliced(
        self, plain: list[int], messages: Sequence[Message], tools: Sequence[Tool], namespace: str,
        values: Mapping[str, Any],
    ) -> list[int]:  # fmt: skip
        for index in range(len(messages) - 1, 0, -1):
            message = messages[index]
            if message.role != "assistant":
                continue
            found = self._turns.find(namespace, message_key(message), plain)
            if found is not None:
                begin, tokens = found
                end = self._answer_end(plain, begin, messages[: index + 1], tools, values)
                if end is not None and self._has_thoughts(message, plain[begin:end]):
                    return [*tokens, *plain[end:]]
        return plain

    def _has_thoughts(self, message: Message, written: Sequence[int]) -> bool:
        """Whether the template wrote the thoughts that belong to an answer, as it seldom does in earlier turns."""
        thoughts = (message.reasoning_content or message.reasoning or "").strip()
        return not thoughts or thoughts in self._loaded.tokenizer.decode(written)

    def _answer_end(
        self, plain: list[int], begin: int, messages: Sequence[Message], tools: Sequence[Tool],
        values: Mapping[str, Any],
    ) -> int | None:  # fmt: skip
        """Where the answer that begins at `begin`, the last of `messages`, ends: before the template's end token."""
        said = self._loaded.tokenizer.encode_continuation(content_text(messages[-1].content))
        is_text = not (messages[-1].tool_calls or messages[-1].reasoning_content or messages[-1].reasoning)
        if is_text and plain[begin : begin + len(said)] == said:
            return begin + len(said)
        upto = self.encode(messages, tools, values, "closed")
        ends = [at for at in range(begin, len(upto)) if upto[at] in self._loaded.generation.eos_ids]
        return ends[-1] if ends and plain[: len(upto)] == upto else None


def of_chat(
    messages: Sequence[Message], tools: Sequence[Tool], values: Mapping[str, Any] | None, ending: Ending
) -> tuple[Any, ...]:
    """What a chat's tokens are read from, for `Readings`."""
    return messages, tools, values or {}, ending


def _next(answer: Message, text: str) -> list[Message]:
    """What follows an answer."""
    results = [Message(role="tool", content=text, tool_call_id=call.id) for call in answer.tool_calls or ()]
    return results or [Message(role="user", content=text)]


def message_key(message: Message) -> str:
    """What an assistant message is recognised by."""
    calls = [(call.told.name, call.said) for call in message.tool_calls or ()]
    return answer_key(content_text(message.content), calls, message.reasoning_content or message.reasoning or "")


def answer_key(content: str, calls: Sequence[tuple[str, str]], reasoning: str) -> str:
    """The same of an answer that is given now."""
    if not (calls or reasoning):
        return content
    return json.dumps([content, [(name, _same_for_all(arguments)) for name, arguments in calls], reasoning])


def _same_for_all(arguments: str) -> str:
    """A call's arguments as they are known again, however a client wrote them that had read them as values."""
    try:
        return json.dumps(json.loads(arguments, parse_float=_number), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def _number(text: str) -> float | int:
    """JavaScript writes 1.0 as 1."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
