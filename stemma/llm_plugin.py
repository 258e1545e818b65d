"""Models for Simon Willison's `llm`: the default one, run in this process, and that of a Stemma server.

    llm -m stemma/smollm2 "..."                 also options, conversations, --schema, tools, embeddings, asyncio
    llm keys set stemma-server                  an address; then `llm -m stemma/server "..."`

Loaded by `llm` alone, through the entry point in pyproject.toml; nothing else imports it. What computes is imported
with the first prompt: `llm` loads every plugin each time it runs.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import llm
from llm.models import EmbeddingModel
from llm.parts import StreamEvent
from pydantic import Field

if TYPE_CHECKING:
    from stemma.llm_answers import Backend

TEXTS_AT_ONCE = 64


class Place:
    """Where a model runs; it begins with the first who asks, and is there for all who do."""

    def __init__(self, name: str, make: Callable[[], Backend], *aliases: str) -> None:
        self.name = name
        self.aliases = aliases
        self._make = make
        self._made: Backend | None = None
        self._lock = threading.Lock()

    def backend(self) -> Backend:
        """Raises StemmaError if it cannot be had."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


def _here() -> Backend:
    from stemma.runtime.engine import Engine

    return Engine(max_running=4, max_batch_tokens=512)


def _there() -> Backend:
    from stemma.lang.remote.connect import connect

    url = llm.get_key(alias="stemma-server", env="STEMMA_SERVER") or "http://127.0.0.1:8000"
    return connect(url, api_key=llm.get_key(alias="stemma", env="STEMMA_API_KEY"))


@cache
def places() -> tuple[Place, ...]:
    """One for each model, whatever is asked of it."""
    return Place("stemma/smollm2", _here, "smollm2"), Place("stemma/server", _there)


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """What `llm` calls to learn of models."""
    for place in places():
        register(StemmaModel(place), AsyncStemmaModel(place), aliases=place.aliases)


@llm.hookimpl
def register_embedding_models(register: Callable[..., None]) -> None:
    """What `llm` calls to learn of models that embed."""
    for place in places():
        register(StemmaEmbeddingModel(place), aliases=place.aliases)


class StemmaOptions(llm.Options):
    """`llm -o NAME VALUE`."""

    max_tokens: int = Field(default=512, ge=1, description="The most tokens to generate.")
    temperature: float | None = Field(default=None, ge=0, description="0 is greedy.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="The likeliest tokens of this probability.")
    seed: int | None = Field(default=None, description="The same seed gives the same tokens.")


class StemmaModel(llm.Model):
    """A model, loaded or connected to with the first prompt."""

    can_stream = True
    supports_schema = True
    supports_tools = True

    class Options(StemmaOptions):
        """As `llm` looks for them."""

    def __init__(self, place: Place) -> None:
        self.model_id = place.name
        self._place = place

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any) -> Iterator[str | StreamEvent]:
        """The answer, piece by piece."""
        from stemma.llm_answers import ask

        answer = ask(self._place.backend(), prompt)
        for delta in answer.generation:
            yield from answer.told(delta.text)
        yield from answer.ended(answer.generation.result(), response)


class AsyncStemmaModel(llm.AsyncModel):
    """The same for asyncio."""

    can_stream = True
    supports_schema = True
    supports_tools = True

    class Options(StemmaOptions):
        """As `llm` looks for them."""

    def __init__(self, place: Place) -> None:
        self.model_id = place.name
        self._place = place

    async def execute(
        self, prompt: Any, stream: bool, response: Any, conversation: Any
    ) -> AsyncGenerator[str | StreamEvent, None]:
        """The answer, piece by piece. Loading a model holds up the loop of who asks first."""
        from stemma.llm_answers import ask

        answer = ask(self._place.backend(), prompt)
        async for delta in answer.generation:
            for part in answer.told(delta.text):
                yield part
        for part in answer.ended(await answer.generation, response):
            yield part


class StemmaEmbeddingModel(EmbeddingModel):
    """Vectors by the same model."""

    batch_size = TEXTS_AT_ONCE

    def __init__(self, place: Place) -> None:
        self.model_id = place.name
        self._place = place

    def embed_batch(self, items: Iterable[str | bytes], *, key: str | None = None) -> Iterator[list[float]]:
        """A vector of each text."""
        rest = iter(items)
        while some := [str(text) for text in itertools.islice(rest, TEXTS_AT_ONCE)]:
            for made in self._place.backend().embed(some):
                yield made.vector.tolist()
