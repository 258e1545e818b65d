"""From what a caller asks to sequences in the loop: options and grammar are read here, a handle is made for each
request, and all of one call enter between the same two steps. What each does with its options is the core's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from stemma.runtime.core import sequence as core
from stemma.runtime.core.checking import checked, describe
from stemma.runtime.engine.generation import Generation
from stemma.runtime.engine.grammars import GrammarCompiler, GrammarSpec
from stemma.runtime.engine.hold import Hold
from stemma.runtime.engine.loop import EngineLoop, Entrance
from stemma.runtime.engine.options import Prompt, RequestMaker, RequestOptions, check_grammar
from stemma.runtime.engine.output_processor import RequestState
from stemma.runtime.engine.text import text_stream
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import LoadedModel


class Submitter:
    """Requests of one engine. They enter by the loop's own entrance, if no other is chosen (`enter_by`)."""

    def __init__(self, loaded: LoadedModel, maker: RequestMaker, loop: EngineLoop) -> None:
        self._loaded = loaded
        self._maker = maker
        self._loop = loop
        self._entrance: Entrance = loop
        self._grammars = GrammarCompiler(loaded)

    def one(self, prompt: Prompt, options: RequestOptions, hold: Hold | None) -> Generation:
        """One request, whose KV the hold keeps when it has ended. Raises InvalidRequest for another engine's hold."""
        if hold is not None and not (isinstance(hold, Hold) and hold.is_of(self._loop)):
            raise InvalidRequest(f"hold must be one that this engine's hold() made; it is {describe(hold)}", "hold")
        return self.enter([self._maker.make(prompt, options)], options, hold)[0]

    def samples(self, prompt: Prompt, n: int, options: RequestOptions) -> list[Generation]:
        """`n` requests on one prompt, with seeds in a row."""
        request = self._maker.make(prompt, options)
        if checked(n, int, "n") < 1:
            raise InvalidRequest(f"n must be at least 1; it is {describe(n)}", "n")
        marks_at = (*request.marks_at, len(request.prompt) - 1) if n > 1 else request.marks_at  # they go on there
        return self.enter(
            [replace(request, seed=request.seed + index, marks_at=marks_at) for index in range(n)], options
        )

    def all(self, prompts: Sequence[Prompt], options: RequestOptions) -> list[Generation]:
        """A request for each prompt; none is started if one is refused."""
        return self.enter([self._maker.make(prompt, options) for prompt in prompts], options)

    def compute(self, tokens: npt.NDArray[np.int32], namespace: str, lora: str | None, hold: Hold) -> None:
        """Compute a text in a namespace, for the hold to keep, and wait for it."""
        request = self._maker.make(tokens, {"max_tokens": 0, "lora": lora})
        self.enter([replace(request, namespace=namespace, shared=None)], {}, hold)[0].result()

    def enter(
        self, requests: Sequence[core.Request], options: RequestOptions, hold: Hold | None = None
    ) -> list[Generation]:
        """Requests that were made of these options. hold: of the path of the one that there is."""
        states = self.states(requests, options)
        for state in states:
            state.sequence.retained = None if hold is None else hold.retained
        self._entrance.submit(states)
        return [state.generation for state in states]

    def states(self, requests: Sequence[core.Request], options: RequestOptions) -> list[RequestState]:
        """What the loop knows of each, before it enters."""
        now = self._loop.clock()
        texts = self._loaded.tokenizer.special_names
        tokens = checked(options.get("shown_tokens", ()), Sequence[int], "shown_tokens")
        shown = {token: texts[token] for token in tokens if token in texts}
        return [self._state(request, options.get("grammar"), shown, now) for request in requests]

    def _state(
        self, request: core.Request, grammar: GrammarSpec | None, shown: Mapping[int, str], now: float
    ) -> RequestState:
        matcher = None if grammar is None else self._grammars.matcher(grammar)
        text = text_stream(self._loaded.tokenizer, request, shown, grammar)
        return RequestState(core.Sequence(request, matcher, text), Generation(self._entrance.cancel), text, now)

    def prepare(self, grammar: GrammarSpec) -> None:
        """Compile a grammar. Raises InvalidRequest."""
        check_grammar(grammar)
        self._grammars.matcher(grammar)

    def enter_by(self, make: Callable[[EngineLoop], Entrance]) -> None:
        """Have requests go through another entrance than the loop's own."""
        self._entrance = make(self._loop)
