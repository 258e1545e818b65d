"""Before a request enters the decoding engine's loop, its prompt is computed elsewhere. Whose prompt is cached, short,
or stands behind shared texts, goes straight in; so does everybody when the other engine is not there."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from stemma.runtime.core.sequence import Request
from stemma.runtime.engine.generation import Generation
from stemma.runtime.engine.loop import EngineLoop
from stemma.runtime.engine.output_processor import RequestState
from stemma.runtime.handover.protocol import HandoverError
from stemma.runtime.handover.taking import Taker

log = logging.getLogger("stemma.handover")

LEAST_TOKENS = 64
"""Fewer missing tokens are computed here: they cost less than being asked for."""


class DecodeEntrance:
    """See `Entrance`. connect: makes a new connection, where all others are in use; may raise HandoverError.

    num_handed, num_failed: requests whose prompt came from elsewhere, and those for whom that failed.
    """

    def __init__(self, loop: EngineLoop, connect: Callable[[], Taker], num_threads: int = 8) -> None:
        self._loop = loop
        self._connect = connect
        self._pool = ThreadPoolExecutor(num_threads, "stemma-handover")
        self._free: list[Taker] = []
        self._lock = threading.Lock()
        self._unwanted: weakref.WeakSet[Generation] = weakref.WeakSet()
        self.num_handed = self.num_failed = 0

    def submit(self, states: Sequence[RequestState]) -> None:
        """Returns at once. Those that were submitted together enter together, when all their prompts are there."""
        if all(_stays(state.sequence.request) for state in states):
            self._loop.submit(states)
        else:
            self._pool.submit(self._bring_in, states)

    def cancel(self, generation: Generation) -> None:
        self._unwanted.add(generation)
        self._loop.cancel(generation)

    def close(self) -> None:
        """Those who wait for their prompts go in as they are."""
        self._pool.shutdown(wait=False)
        while self._free:
            self._free.pop().close()

    def _bring_in(self, states: Sequence[RequestState]) -> None:
        asked: set[tuple[str, bytes]] = set()
        for state in states:
            request = state.sequence.request
            key = (request.namespace, request.prompt.tobytes())
            if key not in asked and not _stays(request):
                asked.add(key)
                self._fetch(request, partial(self._is_wanted, state.generation))
        try:
            self._loop.submit(states)
        except BaseException as error:
            for state in states:
                state.generation.fail(error)
            return
        for state in states:
            if state.generation in self._unwanted:
                self._loop.cancel(state.generation)  # it had not been there when it was cancelled

    def _is_wanted(self, generation: Generation) -> bool:
        return generation not in self._unwanted

    def _fetch(self, request: Request, is_wanted: Callable[[], bool]) -> None:
        ids = request.prompt[: request.max_hit]
        try:
            taker = self._taker()
            try:
                taken = taker.take(ids, request.namespace, request.lora, is_wanted, LEAST_TOKENS)
                self.num_handed += taken is not None
            except BaseException:
                taker.close()
                raise
            with self._lock:
                self._free.append(taker)
        except HandoverError as error:
            if is_wanted():
                self.num_failed += 1
                log.warning("a prompt of %d tokens is computed here: %s", len(request.prompt), error)
        except Exception:
            self.num_failed += 1
            log.exception("a prompt of %d tokens is computed here", len(request.prompt))

    def _taker(self) -> Taker:
        with self._lock:
            if self._free:
                return self._free.pop()
        return self._connect()


def _stays(request: Request) -> bool:
    """Whether it is not worth asking, or cannot be asked for."""
    return request.shared is not None or request.max_hit < LEAST_TOKENS
