"""The decode side: asks for what is missing of a prompt, and puts it into the cache as it comes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from stemma.kernels.ops import Int32Array
from stemma.radix import PrefixCache
from stemma.runtime.engine.loading import PathBytes
from stemma.runtime.engine.namespaces import MARK
from stemma.runtime.engine.saving import Saver, put, same_model
from stemma.runtime.handover.protocol import Ask, Channel, Done, HandoverError, Hello, Piece, Refused, Still


class Wish(NamedTuple):
    """Of whoever needs a path. is_wanted: whether that is still so. priority: larger goes first. seconds: after which
    it is of no use."""

    is_wanted: Callable[[], bool] = lambda: True
    priority: int = 0
    seconds: float = math.inf


ANYBODY_S = Wish()


class Taker:
    """One connection to a prefilling engine; for one thread at a time."""

    def __init__(self, channel: Channel, saver: Saver, *, by_tier: bool = False) -> None:
        """by_tier: KV is not sent, but found in the tier that both engines share. Raises HandoverError if the other
        engine's KV is of no use here."""
        self._channel = channel
        self._saver = saver
        self._by_tier = by_tier
        channel.send(Hello(saver.identity, list(saver.probe)))
        answer, _ = channel.receive()
        if isinstance(answer, Refused):
            raise HandoverError(answer.why)
        assert isinstance(answer, Hello), f"{answer} is no greeting"
        if (why := same_model(answer.identity, answer.probe, saver)) is not None:
            raise HandoverError(why)

    def take(self, ids: Int32Array, name: str, lora: str | None, wish: Wish = ANYBODY_S, least: int = 1) -> int | None:
        """Have a path computed elsewhere. Returns how many of its tokens are cached here then: fewer than all where
        there is no free room; None where fewer than `least` are missing or it is not wanted, and nobody was asked.
        wish: asked after each piece too; where it has ended, the connection cannot be used again.

        Raises HandoverError.
        """
        until = time.monotonic() + wish.seconds
        have: int = self._saver.between_steps(lambda cache: cache.match(ids, name).match_len)
        if len(ids) - have < least or not wish.is_wanted() or time.monotonic() >= until:
            return None
        first = have // self._saver.memory.block_size
        ttft = None if wish.seconds == math.inf else until - time.monotonic()
        namespace = name.partition(MARK)[0]
        self._channel.send(Ask(ids.tolist(), namespace, lora, first, self._by_tier, wish.priority, ttft))
        while wish.is_wanted():
            message, data = self._channel.receive(until - time.monotonic())
            if isinstance(message, Refused):
                raise HandoverError(message.why)
            if isinstance(message, Done):
                return have
            if isinstance(message, Still):
                continue
            assert isinstance(message, Piece), f"{message} is no piece"
            placed = partial(self._put, ids=ids, name=name, piece=message, data=data)
            have = max(have, self._saver.between_steps(placed))
        raise HandoverError("nobody wants it any more")

    def _put(self, cache: PrefixCache, *, ids: Int32Array, name: str, piece: Piece, data: memoryview) -> int:
        path = PathBytes.parted(self._saver.memory, ids[: piece.end], piece.first, data, piece.places)
        return put(cache, name, path)

    def close(self) -> None:
        self._channel.close()
