"""Messages to the tokens of a prompt: the chat template, tools, and earlier answers as they were generated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stemma.runtime.errors import ChatTemplateError, PromptTooLong
from stemma.runtime.model import LoadedModel
from stemma.server.http.errors import bad_request
from stemma.server.prompts.tool_text import CALL_BEGIN, content_text, template_messages, tool_values, with_instructions
from stemma.server.prompts.turns import TurnMemory
from stemma.server.wire.chat import Message, Tool


class ChatPrompt(NamedTuple):
    """A prompt twice. plain: encoded from text. tokens: to be run, with earlier answers as they were generated."""

    plain: list[int]
    tokens: list[int]


class ChatPrompter:
    """Writes prompts for one model. Any thread may use it."""

    def __init__(self, loaded: LoadedModel, turns: TurnMemory) -> None:
        self._loaded = loaded
        self._turns = turns
        self._longest_token = max((len(data) for data in loaded.tokenizer.vocabulary() if data), default=1)
        self.is_native = loaded.chat_template is not None and CALL_BEGIN in loaded.chat_template.tool_source

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        namespace: str,
        values: Mapping[str, Any] | None = None,
    ) -> ChatPrompt:
        """The prompt of the next answer. Raises ApiError or PromptTooLong."""
        plain = self.encode(messages, tools, values)
        return ChatPrompt(plain, self._spliced(plain, messages, tools, namespace, values or {}))

    def encode(
        self, messages: Sequence[Message], tools: Sequence[Tool], values: Mapping[str, Any] | None = None, *,
        add_generation_prompt: bool = True,
    ) -> list[int]:  # fmt: skip
        """Tokens of a chat, from its text alone."""
        values, template = values or {}, self._loaded.chat_template
        if not messages:
            raise bad_request("messages is empty", "messages")
        if template is None:
            raise bad_request(f"{self._loaded.config.name} has no chat template: use /v1/completions", "messages")
        try:
            template.check_values(values)
        except ChatTemplateError as error:
            raise bad_request(str(error), "chat_template_kwargs") from error
        self.check_length(sum(len(content_text(message.content)) for message in messages), "messages")
        written = template_messages(messages, native=self.is_native)
        if tools and not self.is_native:
            written = with_instructions(written, tools)
        try:
            return template.encode_chat(
                written,
                add_generation_prompt=add_generation_prompt,
                tools=tool_values(tools) if tools and self.is_native else None,
                **values,
            )
        except ChatTemplateError as error:
            raise bad_request(str(error), "messages") from error

    def encode_text(self, text: str) -> list[int]:
        """Tokens of a plain prompt. Raises PromptTooLong."""
        self.check_length(len(text), "prompt")
        return self._loaded.tokenizer.encode_prompt(text)

    def check_length(self, num_characters: int, param: str) -> None:
        """Raises PromptTooLong for a text that cannot fit whatever its tokens are, before it is encoded."""
        longest = self._loaded.config.context_length * self._longest_token
        if num_characters > longest:
            raise PromptTooLong(f"{param} has {num_characters} characters; no more than {longest} can fit", param)

    def remember(self, prompt: ChatPrompt, namespace: str, answer: str, key: str, tokens: Sequence[int]) -> list[int]:
        """Keep an answer; returns the tokens of prompt and answer as they were run.

        answer: its whole text as generated. key: `answer_key` of what the client was given.
        """
        ran = [*prompt.tokens, *self._as_said(answer, tokens)]
        self._turns.remember(namespace, prompt.plain, key, ran)
        return ran

    def _as_said(self, answer: str, tokens: Sequence[int]) -> list[int]:
        """The generated tokens without what is no part of the answer: end tokens, stop strings that were cut."""
        tokenizer = self._loaded.tokenizer
        pieces = [(token, data) for token in tokens if (data := tokenizer.token_bytes(token)) is not None]
        said = b"".join(data for _, data in pieces)
        if said.decode("utf-8", "replace") == answer:
            return [token for token, _ in pieces]
        wanted = answer.encode()
        while not wanted.startswith(said):
            said = said[: len(said) - len(pieces.pop()[1])]
        rest = wanted[len(said) :].decode("utf-8", "replace")
        return [*(token for token, _ in pieces), *tokenizer.encode_continuation(rest)]

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
                if end is not None:
                    return [*tokens, *plain[end:]]
        return plain

    def _answer_end(
        self, plain: list[int], begin: int, messages: Sequence[Message], tools: Sequence[Tool],
        values: Mapping[str, Any],
    ) -> int | None:  # fmt: skip
        """Where the answer that begins at `begin`, the last of `messages`, ends: before the template's end token."""
        said = self._loaded.tokenizer.encode_continuation(content_text(messages[-1].content))
        if not messages[-1].tool_calls and plain[begin : begin + len(said)] == said:
            return begin + len(said)
        upto = self.encode(messages, tools, values, add_generation_prompt=False)
        ends = [at for at in range(begin, len(upto)) if upto[at] in self._loaded.generation.eos_ids]
        return ends[-1] if ends and plain[: len(upto)] == upto else None


def message_key(message: Message) -> str:
    """What an assistant message is recognised by."""
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    return answer_key(content_text(message.content), calls)


def answer_key(content: str, calls: Sequence[tuple[str, str]]) -> str:
    """The same of an answer that is given now."""
    return json.dumps([content, calls]) if calls else content
