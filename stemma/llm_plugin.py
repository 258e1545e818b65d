"""A model for Simon Willison's `llm`: `llm -m stemma/smollm2 "..."`, with options, conversations and `--schema`.

Loaded by `llm` alone, through the entry point in pyproject.toml; nothing else imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import llm
from pydantic import Field

from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.engine import Engine, RequestOptions
from stemma.runtime.errors import ModelError
from stemma.runtime.tongues.closed_schema import closed


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """What `llm` calls to learn of models."""
    register(StemmaModel(), aliases=("smollm2",))


class StemmaModel(llm.Model):
    """The default model, run in this process and loaded with the first prompt."""

    model_id = "stemma/smollm2"
    can_stream = True
    supports_schema = True

    class Options(llm.Options):
        """`llm -o NAME VALUE`."""

        max_tokens: int = Field(default=512, ge=1, description="The most tokens to generate.")
        temperature: float | None = Field(default=None, ge=0, description="0 is greedy.")
        top_p: float | None = Field(default=None, gt=0, le=1, description="The likeliest tokens of this probability.")
        seed: int | None = Field(default=None, description="The same seed gives the same tokens.")

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any) -> Iterator[str]:
        """The answer, piece by piece."""
        if self._engine is None:
            self._engine = Engine(max_running=4, max_batch_tokens=512)
        template = self._engine.loaded.chat_template
        if template is None:
            raise ModelError("this model has no chat template")
        given = prompt.options
        options = RequestOptions(max_tokens=given.max_tokens, seed=given.seed)
        if given.temperature is not None:
            options["temperature"] = given.temperature
        if given.top_p is not None:
            options["top_p"] = given.top_p
        if prompt.schema:
            options["grammar"] = JSONSchema(closed(prompt.schema))
        generation = self._engine.submit(template.encode_chat(messages_of(prompt, conversation)), **options)
        for delta in generation:
            yield delta.text
        usage = generation.result().usage
        response.set_usage(input=usage.prompt_tokens, output=usage.completion_tokens, details=usage._asdict())


def messages_of(prompt: Any, conversation: Any) -> list[dict[str, str]]:
    """The conversation so far, and the prompt."""
    messages: list[dict[str, str]] = []
    for past in conversation.responses if conversation is not None else ():
        if past.prompt.system and not messages:
            messages.append({"role": "system", "content": past.prompt.system})
        messages.append({"role": "user", "content": past.prompt.prompt or ""})
        messages.append({"role": "assistant", "content": past.text_or_raise()})
    if prompt.system and not messages:
        messages.append({"role": "system", "content": prompt.system})
    return [*messages, {"role": "user", "content": prompt.prompt or ""}]
