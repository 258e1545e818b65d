"""What every endpoint works with: the engine, the configuration, and the little state a server has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from typing import ParamSpec

from stemma.runtime.engine import Engine, Generation, RequestOptions
from stemma.runtime.engine.grammars import GrammarSpec, OwnSpec
from stemma.runtime.engine.sharing import SharedText
from stemma.runtime.errors import EngineClosed, InvalidRequest, PinRefused, PoolExhausted
from stemma.server.config import ServerConfig
from stemma.server.generation.idle import IdleWork
from stemma.server.generation.pins import Pins
from stemma.server.generation.runs import Runs
from stemma.server.generation.token_texts import TokenTexts
from stemma.server.http.errors import ApiError
from stemma.server.http.keys import Tenant
from stemma.server.http.state import HttpState
from stemma.server.outputs.compiling import Compilers
from stemma.server.prompts.beginnings import beginnings
from stemma.server.prompts.places import SystemEnds
from stemma.server.prompts.prompter import ChatPrompter
from stemma.server.prompts.turns import TurnMemory
from stemma.server.store.records import Limits
from stemma.server.store.store import Store
from stemma.version import VERSION

P = ParamSpec("P")

ALIAS = "stemma"
"""What the model is called on any server, so that examples work everywhere."""


class Service(HttpState):
    """An engine with what a server keeps beside it. Lives as long as the server.

    compilers: compile grammars. turns: answers as they were generated. pins: prefixes that callers keep. idle: what is
    computed for nobody yet. store: what is kept for callers; None keeps nothing. runs: answers that outlive the request
    for them. kept_by: what ids end with of what is kept, by which who routes among several servers finds this one.
    """

    def __init__(self, engine: Engine, config: ServerConfig) -> None:
        self.idle = IdleWork(engine)
        super().__init__(config, engine.config.max_running + config.max_queue, self.idle.give_way)
        self.engine = engine
        self.model_name = config.model_name or engine.loaded.name
        self.loras = tuple(engine.loaded.loras.digests) if engine.loaded.loras is not None else ()
        own = (self.model_name, engine.loaded.name, engine.loaded.config.name, ALIAS, "default")
        self._names = frozenset(name.casefold() for name in own)
        """Of the model itself, which are found however they are written."""
        if taken := sorted(name for name in self.loras if name.casefold() in self._names):
            raise InvalidRequest(f"an adapter cannot be called {taken[0]!r}: the model is", "loras")
        self.tokenizer = engine.loaded.tokenizer
        self.texts = TokenTexts(self.tokenizer)
        self.turns = TurnMemory(config.turn_memory_bytes)
        self.prompter = ChatPrompter(engine.loaded, engine.tongue, self.turns)
        self.system_ends = None if engine.loaded.config.marks is None else SystemEnds(self.prompter)
        self.pins = Pins()
        self.compilers = Compilers(engine, config.compile_seconds)
        limits = Limits(config.max_state_objects, config.max_state_bytes, config.max_files_bytes)
        self.store = Store(config.cache_folder, limits) if config.keep_state else None
        self.runs = Runs()
        self.kept_by = ""
        self.started = time.time()
        self.fingerprint = f"stemma-{VERSION}"
        self._shared = self._share()
        self._under_way: list[Sequence[Generation]] = []

    def _share(self) -> list[SharedText]:
        """Have what all keys share computed, for the model and each of its adapters. Raises InvalidRequest."""
        shared: list[SharedText] = []
        try:
            for prompt in self.config.shared_prompts:
                for tokens in beginnings(self.prompter, prompt):
                    shared += [self.engine.share(tokens, lora=lora) for lora in (None, *self.loras)]
        except (PinRefused, PoolExhausted, InvalidRequest) as error:
            for text in shared:
                text.release()
            raise InvalidRequest(f"the shared prompts cannot be kept: {error}", "shared_prompts") from error
        return shared

    @contextmanager
    def under_way(self, generations: Sequence[Generation]) -> Iterator[None]:
        """Inside, these generations are part of somebody's answer; they are cancelled at the end."""
        self._under_way.append(generations)
        try:
            yield
        finally:
            self._under_way = [other for other in self._under_way if other is not generations]
            for generation in generations:
                generation.give_up()

    def owned(self, tenant: Tenant, spec: GrammarSpec) -> GrammarSpec:
        """The spec as this caller's own: where there are several keys, each has its grammars compiled for itself."""
        return OwnSpec(tenant.name, spec) if len(self.config.api_keys) > 1 else spec

    def cut_short(self) -> None:
        """End every answer that is under way with an error that tells its reader to come back; on the server's loop."""
        self.is_over.set()
        for generations in self._under_way:
            for generation in generations:
                generation.give_up()
                generation.fail(EngineClosed("the server shut down before the answer was complete; ask again"))

    def later(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have something done beside the event loop that nobody waits for."""
        if not self.stopping.is_set():
            asyncio.get_running_loop().run_in_executor(self._workers, lambda: work(*args, **kwargs))

    def compute_later(self, tokens: Sequence[int], options: RequestOptions, priority: int) -> None:
        """Have these tokens in the cache soon, where a request with these options finds them. Nobody waits for it, but
        what goes on from them comes behind it."""
        if self.engine.config.prefix_cache and self.engine.room(len(tokens)) > 0:
            namespace, lora = options["namespace"], options["lora"]
            with suppress(EngineClosed):
                self.engine.submit(tokens, max_tokens=0, namespace=namespace, lora=lora, priority=priority)

    @property
    def listed_names(self) -> list[str]:
        """What models are called in lists of them: the model first, by its name and its alias, then adapters."""
        return list(dict.fromkeys((self.model_name, ALIAS, *self.loras)))

    def lora_of(self, name: str | None) -> str | None:
        """The adapter that a request's `model` names; None is the model itself. Raises ApiError (404) for a model that
        is not served here. `:latest`, which clients of Ollama put behind any name, says nothing."""
        for written in () if name is None else (name, name.removesuffix(":latest")):
            if written in self.loras:
                return written
            if written.casefold() in self._names or any(fnmatchcase(written, name) for name in self.config.also_called):
                return None
        if name is None:
            return None
        there = " and ".join(repr(each) for each in (self.model_name, *self.loras))
        message = f"there is no model {name!r} here; there is {there}"
        raise ApiError(404, message, param="model", code="model_not_found")

    def check_model(self, name: str | None) -> None:
        """Raises ApiError (404) likewise; for what adapters change nothing of."""
        self.lora_of(name)

    def name_of(self, asked: str | None) -> str:
        """What an answer to a request for this model says that it comes from. Raises ApiError (404)."""
        return self.lora_of(asked) or self.model_name

    def close(self) -> None:
        """Let go of threads and of the store. The engine stays whose it is."""
        self.idle.give_way()
        self.compilers.close()
        for text in self._shared:
            text.release()
        super().close()
        if self.store is not None:
            self.store.close()
