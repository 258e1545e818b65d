"""The prefill side: computes what is asked for, and sends KV while the rest is computed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from functools import partial

import numpy as np

from stemma.kernels.ops import Int32Array
from stemma.radix import PrefixCache
from stemma.runtime.core.failures import describe_error
from stemma.runtime.engine import Engine
from stemma.runtime.engine.namespaces import namespace_of
from stemma.runtime.engine.saving import same_model
from stemma.runtime.errors import StemmaError
from stemma.runtime.handover.protocol import Ask, Channel, Done, HandoverError, Hello, Piece, Refused, Still

log = logging.getLogger("stemma.handover")

PAUSE = 0.002
"""Seconds between two looks at what was computed since."""
STILL_SECONDS = 2.0
"""Who waits hears at least so often that there is somebody."""
WRITING_SECONDS = 5.0
"""That a shared tier may take for what it was given; what is not there by then is computed again."""


class PrefillService:
    """An engine that computes prompts for others, a thread for each that is connected."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._saver = engine.saver()
        self._asked = 0
        self._changed = threading.Condition()

    @property
    def num_asked(self) -> int:
        """Prompts that it computes for others now, or that wait for that."""
        return self._asked

    def drain(self, seconds: float) -> bool:
        """Wait until it has none, no longer than so long. Returns whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._asked == 0, seconds)

    def serve(self, channels: Iterable[Channel]) -> None:
        """Answer all who come, until nobody is let in any more."""
        for channel in channels:
            threading.Thread(target=self.answer, args=(channel,), name="stemma-prefill", daemon=True).start()

    def answer(self, channel: Channel) -> None:
        """One connection, until it ends. Never raises."""
        try:
            self._greet(channel)
            while True:
                message, _ = channel.receive()
                assert isinstance(message, Ask), f"{message} is nothing to ask"
                self._count(1)
                try:
                    self._give(channel, message)
                except HandoverError:
                    raise
                except StemmaError as error:
                    channel.send(Refused(describe_error(error)))
                finally:
                    self._count(-1)
        except HandoverError:
            pass  # it has gone, or is no such engine
        except Exception:
            log.exception("a connection to a decoding engine failed")
        finally:
            channel.close()

    def _count(self, change: int) -> None:
        with self._changed:
            self._asked += change
            self._changed.notify_all()

    def _greet(self, channel: Channel) -> None:
        hello, _ = channel.receive()
        assert isinstance(hello, Hello), "the first message is a greeting"
        why = same_model(hello.identity, hello.probe, self._saver)
        if why is not None:
            channel.send(Refused(why))
            raise HandoverError(why)
        channel.send(Hello(self._saver.identity, list(self._saver.probe)))

    def _give(self, channel: Channel, ask: Ask) -> None:
        engine, ids = self._engine, np.array(ask.tokens, dtype=np.int32)
        name = namespace_of(engine.loaded, ask.namespace, ask.lora)
        hold = engine.hold()
        ttft_ms = None if ask.ttft is None else max(1.0, 1000 * ask.ttft)
        generation = engine.submit(
            ask.tokens, max_tokens=0, hold=hold, namespace=ask.namespace, lora=ask.lora, priority=ask.priority,
            ttft_ms=ttft_ms,
        )  # fmt: skip
        try:
            first, is_done, told = ask.first, False, time.monotonic()
            while not is_done:
                try:
                    generation.result(timeout=PAUSE)
                    is_done = True
                except TimeoutError:
                    pass
                before = first
                if not ask.by_tier:
                    first = self._send_from(channel, ids, name, first, whole=is_done)
                if first > before:
                    told = time.monotonic()
                elif time.monotonic() - told > STILL_SECONDS:
                    channel.send(Still())
                    told = time.monotonic()
            if ask.by_tier and engine.tiering is not None:
                engine.tiering.writer.drain(WRITING_SECONDS)
            channel.send(Done())
        finally:
            generation.cancel()
            hold.release()

    def _send_from(self, channel: Channel, ids: Int32Array, name: str, first: int, *, whole: bool) -> int:
        """Send what is computed of the path from a block on, the marks with the last piece. Returns the next block."""
        size = self._saver.memory.block_size
        most = max(1, channel.room // max(1, self._saver.memory.block_bytes))
        while True:
            last = min(len(ids), (first + most) * size)
            read = partial(self._read, ids=ids, name=name, first=first, last=last, whole=whole)
            piece, data = self._engine.with_cache(read)
            if piece is None:
                return first
            channel.send(piece, data)
            first = -(-piece.end // size) if whole else piece.end // size
            if piece.end < last or last == len(ids):
                return first

    def _read(
        self, cache: PrefixCache, *, ids: Int32Array, name: str, first: int, last: int, whole: bool
    ) -> tuple[Piece | None, list[bytes]]:
        """Whole blocks while it is computed; all there is, with marks, at the end."""
        size, memory = self._saver.memory.block_size, self._saver.memory
        found = cache.match(ids[:last], name)
        end = found.match_len if whole else found.match_len // size * size
        ends_here = whole and last == len(ids)
        if end <= first * size and not (ends_here and cache.has_marks):
            return None, []
        blocks = [memory.read_block(block) for block in found.blocks[first : -(-end // size)]]
        marks = [mark for mark in cache.marks(ids, name) if mark.position > first * size] if ends_here else []
        places = [(mark.position, len(mark.window_blocks)) for mark in marks]
        return Piece(first, end, places), [*blocks, *(memory.read_mark(mark) for mark in marks)]
