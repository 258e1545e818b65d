"""What every endpoint works with: the engine, the configuration, and the little state a server has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

from stemma.runtime.engine import Engine, Generation
from stemma.runtime.errors import EngineClosed
from stemma.server.compiling import Compilers
from stemma.server.config import ServerConfig
from stemma.server.errors import ApiError
from stemma.server.gate import Gate
from stemma.server.keys import KeyRing
from stemma.server.pins import Pins
from stemma.server.prompts import ChatPrompter
from stemma.server.request_log import RequestCounts
from stemma.server.saves import Saves
from stemma.server.token_texts import TokenTexts
from stemma.server.tree_view import TreeFeed
from stemma.server.turns import TurnMemory
from stemma.version import VERSION

P = ParamSpec("P")
T = TypeVar("T")
NUM_WORKERS = 4


class Service:
    """An engine with what a server keeps beside it. Lives as long as the server.

    compilers: compile grammars. turns: answers as they were generated. pins: what callers keep in the cache.
    stopping: set when the server ends. is_over: set when those who are still waiting then are sent away.
    """

    def __init__(self, engine: Engine, config: ServerConfig) -> None:
        self.engine = engine
        self.config = config
        self.model_name = config.model_name or engine.loaded.config.name
        self.tokenizer = engine.loaded.tokenizer
        self.texts = TokenTexts(self.tokenizer)
        self.keys = KeyRing(config.api_keys)
        self.gate = Gate(engine.config.max_running + config.max_queue, config.max_requests_per_key)
        self.turns = TurnMemory(config.turn_memory_bytes)
        self.prompter = ChatPrompter(engine.loaded, self.turns)
        self.pins = Pins(engine)
        self.saves = Saves(engine, config.cache_folder, config.max_saved_bytes)
        self.tree = TreeFeed(engine)
        self.counts = RequestCounts()
        self.started = time.time()
        self.fingerprint = f"stemma-{VERSION}"
        self.stopping = asyncio.Event()
        self.is_over = asyncio.Event()
        self._under_way: list[Sequence[Generation]] = []
        self._workers = ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="stemma-server")
        self.compilers = Compilers(engine, config.compile_seconds)

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what takes time (tokenizing, compiling, asking the engine) beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, lambda: function(*args, **kwargs))

    @contextmanager
    def under_way(self, generations: Sequence[Generation]) -> Iterator[None]:
        """These are somebody's answer meanwhile; they are cancelled at the end."""
        self._under_way.append(generations)
        try:
            yield
        finally:
            self._under_way = [other for other in self._under_way if other is not generations]
            for generation in generations:
                generation.give_up()

    def cut_short(self) -> None:
        """End every answer that is under way with an error that tells its reader to come back; on the server's loop."""
        self.is_over.set()
        for generations in self._under_way:
            for generation in generations:
                generation.give_up()
                generation.fail(EngineClosed("the server shut down before the answer was complete; ask again"))

    def compute_later(self, tokens: Sequence[int], namespace: str, priority: int) -> None:
        """Have these tokens in the cache soon. Nobody waits for it, but what goes on from them comes behind it."""
        if self.engine.config.prefix_cache and self.engine.room(len(tokens)) > 0:
            with suppress(EngineClosed):
                self.engine.submit(tokens, max_tokens=0, namespace=namespace, priority=priority)

    def check_model(self, name: str | None) -> None:
        """Raises ApiError (404) for a model that is not served here."""
        if name is not None and name.casefold() not in {self.model_name.casefold(), "default", "stemma"}:
            message = f"there is no model {name!r} here; there is {self.model_name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    def close(self) -> None:
        """Let go of threads. The engine stays whose it is."""
        self.stopping.set()
        self.compilers.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
