"""What a replica tells is what a router hears: early, late, and after an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("zmq", reason="pyzmq is not installed: pip install 'stemma-llm[scale]'")

from stemma.radix.events import Event
from stemma.runtime.engine import Engine
from stemma.runtime.model import LoadedModel
from stemma.scale.fleet import Index, hashes_of
from stemma.scale.ray.telling import Following, Telling

PROMPTS = [[number, *range(40)] for number in range(5)]


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_an_index_is_right_whenever_its_router_starts(tiny_loaded: LoadedModel):
    with Engine.of(tiny_loaded, kv_tokens=2048, block_size=4) as engine:
        size = engine.config.block_size
        telling = Telling(engine, "127.0.0.1", "this-machine")
        assert telling.address["endpoint"].startswith("tcp://127.0.0.1:")
        indexes = [Index(), Index()]
        lock = threading.Lock()

        def hears(index: Index) -> Callable[[Event], None]:
            def heard(event: Event) -> None:
                with lock:
                    index.apply("r", event)

            return heard

        def knows(index: Index, prompt: list[int]) -> bool:
            with lock:
                return index.match(hashes_of(prompt, "", size)) == {"r": len(prompt) // size}

        early = Following("r", telling.address, hears(indexes[0]))
        for prompt in PROMPTS:
            engine.generate(prompt, max_tokens=1)
        late = Following("r", telling.address, hears(indexes[1]))
        wait_until(lambda: all(knows(index, prompt) for index in indexes for prompt in PROMPTS))
        engine.with_cache(lambda cache: cache.clear())
        wait_until(lambda: not any(knows(index, prompt) for index in indexes for prompt in PROMPTS))
        early.close()
        late.close()
        telling.close()
    wait_until(
        lambda: not [each for each in threading.enumerate() if each.name.startswith(("stemma-follows", "stemma-kv"))]
    )


def test_others_are_told_what_they_call_this_machine(tiny_loaded: LoadedModel):
    with Engine.of(tiny_loaded, kv_tokens=2048) as engine:
        telling = Telling(engine, "0.0.0.0", "this-machine")
        telling.close()
    assert all(value.startswith("tcp://this-machine:") for value in telling.address.values())
