"""Before a request enters the decoding engine's loop, its prompt is computed elsewhere. Whose prompt is cached, short,
or stands behind shared texts, goes straight in; so does everybody when the other engine is not there, and whoever may
wait no longer. Who goes first of all others is for the other engine to say: it hears of each at once."""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from stemma.runtime.core.sequence import Request
from stemma.runtime.engine import Engine
from stemma.runtime.engine.generation import Generation
from stemma.runtime.engine.loop import EngineLoop
from stemma.runtime.engine.output_processor import RequestState
from stemma.runtime.handover.protocol import Channel, HandoverError
from stemma.runtime.handover.taking import Taker, Wish

log = logging.getLogger("stemma.handover")

LEAST_TOKENS = 64
"""Fewer missing tokens are computed here: they cost less than being asked for."""
AWAY_SECONDS = 1.0
AWAY_TIMES = 6.0
"""A place where nobody could be reached is not asked for so long, or so many times as long as hearing that took: else
each request would wait for a process that hangs."""
MOST_AT_ONCE = 512
"""Requests whose prompts are computed elsewhere; each has a thread that waits. More than engines let in by default."""
MOST_FREE = 8
"""Connections that are kept though nobody needs them."""
Place = TypeVar("Place", bound=Hashable)


class DecodeEntrance(Generic[Place]):
    """See `Entrance`. Any thread may use it.

    connect: makes a new connection to a place, where all others are in use; may raise HandoverError.
    where: the place at which prompts are computed of what is submitted by this thread just now; None is here.
    num_handed, num_failed: requests whose prompt came from elsewhere, and those for whom that failed.
    """

    def __init__(self, loop: EngineLoop, connect: Callable[[Place], Taker], where: Callable[[], Place | None]) -> None:
        self._loop = loop
        self._connect = connect
        self._where = where
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE, "stemma-handover")
        self._free: deque[tuple[Place, Taker]] = deque()  # the one that was used last stands last
        self._away: dict[Place, float] = {}  # until when
        self._lock = threading.Lock()
        self._unwanted: weakref.WeakSet[Generation] = weakref.WeakSet()
        self._is_closed = False
        self.num_handed = self.num_failed = 0

    def submit(self, states: Sequence[RequestState]) -> None:
        """Returns at once. Those that were submitted together enter together, when all their prompts are there."""
        place = self._where()
        if place is None or self._is_closed or all(_stays(state.sequence.request) for state in states):
            self._loop.submit(states)
        else:
            self._loop.call(partial(self._look, states, place))

    def cancel(self, generation: Generation) -> None:
        self._unwanted.add(generation)
        self._loop.cancel(generation)

    def close(self) -> None:
        """Those who wait for their prompts go in as they are."""
        self._pool.shutdown(wait=False)
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, deque()
        for _, taker in free:
            taker.close()

    def _look(self, states: Sequence[RequestState], place: Place) -> None:
        """In the loop's thread: nobody whose prompt is cached waits behind others."""
        try:
            requests = [state.sequence.request for state in states]
            if any(not _stays(each) and self._num_missing(each) >= LEAST_TOKENS for each in requests):
                self._pool.submit(self._bring_in, states, place)
            else:
                self._go_in(states)
        except RuntimeError:  # it was closed meanwhile
            self._go_in(states)

    def _num_missing(self, request: Request) -> int:
        ids = request.prompt[: request.max_hit]
        return len(ids) - self._loop.scheduler.cache.match(ids, request.namespace).match_len

    def _bring_in(self, states: Sequence[RequestState], place: Place) -> None:
        asked: set[tuple[str, bytes]] = set()
        for state in states:
            request = state.sequence.request
            key = (request.namespace, request.prompt.tobytes())
            if key not in asked and not _stays(request):
                asked.add(key)
                self._fetch(state, place)
        self._go_in(states)

    def _go_in(self, states: Sequence[RequestState]) -> None:
        try:
            self._loop.submit(states)
        except BaseException as error:
            for state in states:
                state.generation.fail(error)
            return
        for state in states:
            if state.generation in self._unwanted:
                self._loop.cancel(state.generation)  # it had not been there when it was cancelled

    def _wish(self, state: RequestState) -> Wish:
        request = state.sequence.request
        seconds = math.inf if request.ttft is None else state.submitted + request.ttft - self._loop.clock()
        return Wish(lambda: state.generation not in self._unwanted, request.priority, seconds)

    def _fetch(self, state: RequestState, place: Place) -> None:
        request, wish = state.sequence.request, self._wish(state)
        ids = request.prompt[: request.max_hit]
        try:
            taker = self._taker(place)
            try:
                taken = taker.take(ids, request.namespace, request.lora, wish, LEAST_TOKENS)
            except BaseException:
                taker.close()
                raise
            self._put_back(place, taker)
            self._count(handed=taken is not None)
        except HandoverError as error:
            if wish.is_wanted():
                self._count(failed=True)
                log.warning("a prompt of %d tokens is computed here: %s", len(request.prompt), error)
        except Exception:
            self._count(failed=True)
            log.exception("a prompt of %d tokens is computed here", len(request.prompt))

    def _count(self, *, handed: bool = False, failed: bool = False) -> None:
        with self._lock:
            self.num_handed += handed
            self.num_failed += failed

    def _taker(self, place: Place) -> Taker:
        """A connection to this place that nobody uses. Raises HandoverError."""
        with self._lock:
            found = next((each for each in reversed(self._free) if each[0] == place), None)
            if found is not None:
                self._free.remove(found)
                return found[1]
            now = time.monotonic()
            self._away = {each: until for each, until in self._away.items() if until > now}
            if place in self._away:
                raise HandoverError("nobody could be reached there a moment ago")
        try:
            return self._connect(place)
        except HandoverError:
            took = time.monotonic() - now
            with self._lock:
                self._away[place] = time.monotonic() + max(AWAY_SECONDS, AWAY_TIMES * took)
            raise

    def _put_back(self, place: Place, taker: Taker) -> None:
        """The one that nobody has used for longest goes where there are too many: places come and go."""
        with self._lock:
            if not self._is_closed:
                self._free.append((place, taker))
                gone = self._free.popleft()[1] if len(self._free) > MOST_FREE else None
            else:
                gone = taker
        if gone is not None:
            gone.close()


def take_prompts(
    engine: Engine, connect: Callable[[Place], Channel], where: Callable[[], Place | None], *, by_tier: bool = False
) -> Callable[[], None]:
    """Have an engine's prompts computed where `where` says; see `DecodeEntrance`, `Taker`. Returns what ends it."""
    saver, made = engine.saver(), list[DecodeEntrance[Place]]()

    def entrance(loop: EngineLoop) -> DecodeEntrance[Place]:
        made.append(DecodeEntrance(loop, lambda place: Taker(connect(place), saver, by_tier=by_tier), where))
        return made[0]

    engine.enter_by(entrance)
    return made[0].close


def _stays(request: Request) -> bool:
    """Whether it is not worth asking, or cannot be asked for."""
    return request.shared is not None or request.max_hit < LEAST_TOKENS
