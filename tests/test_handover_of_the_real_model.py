"""The real model in two processes, one that computes prompts and one that goes on: the tokens of a single engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stemma.runtime.engine import Engine, EngineConfig
from stemma.runtime.engine.resources import make_ops
from stemma.runtime.handover.protocol import Channel, Piece
from stemma.runtime.model import LoadedModel, load
from stemma.runtime.model.pull import default_model
from tests.runtime.handover.sides import enter

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/architecture.md").read_text()
PROMPTS = ["The capital of France is", "def fibonacci(n):", TEXT[:1200], TEXT[:1200] + " So", TEXT[1200:2400]]
LONG = TEXT[2400:5400]
OTHER = """
import sys
from pathlib import Path
from stemma.runtime.engine import Engine
from stemma.runtime.handover import PrefillService, listen
with Engine(kv_tokens=8192, max_chunk=64) as engine:
    listener = listen(Path(sys.argv[1]))
    print("ready", flush=True)
    PrefillService(engine).serve(listener)
"""


@pytest.fixture(scope="module")
def real() -> LoadedModel:
    return load(default_model(), make_ops(EngineConfig()))


@pytest.fixture
def other(tmp_path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that computes prompts for who comes to `tmp_path / "s"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path / "s")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


class KillingChannel:
    """A connection to a process that is killed as soon as it has given something."""

    def __init__(self, channel: Channel, process: subprocess.Popen[bytes]) -> None:
        self._channel = channel
        self._process = process
        self.room = channel.room
        self.send, self.close = channel.send, channel.close

    def receive(self, seconds=float("inf")):
        message, data = self._channel.receive(seconds)
        if isinstance(message, Piece) and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        return message, data


def enter_by_pieces(engine: Engine, path: Path, through: Callable[[Channel], Channel] = lambda channel: channel):
    """Of 64 tokens at most."""
    return enter(engine, path, 4 * engine.saver().memory.block_bytes, through)


def test_prompts_that_another_process_computed_go_on_with_the_same_tokens_and_are_hits(real, other, tmp_path):
    with Engine.of(real, kv_tokens=8192, prefix_cache=False) as alone:
        expected = [alone.generate(prompt, max_tokens=24).tokens for prompt in PROMPTS]
    with Engine.of(real, kv_tokens=8192) as engine:
        entrance = enter_by_pieces(engine, tmp_path / "s")
        made = [engine.generate(prompt, max_tokens=24) for prompt in PROMPTS]
        assert [each.tokens for each in made] == expected
        assert (entrance.num_handed, entrance.num_failed) == (2, 0)  # the others are short, or were there
        for each in (made[2], made[4]):
            assert (each.usage.prefilled_tokens, each.usage.cached_tokens) == (1, each.usage.prompt_tokens - 1)
        together = [each.result().tokens for each in engine.submit_all(PROMPTS, max_tokens=24)]
        assert together == expected
        entrance.close()
        engine.with_cache(lambda cache: cache.check())


def test_a_process_that_is_killed_while_it_hands_over_leaves_the_rest_to_be_computed_here(real, other, tmp_path):
    with Engine.of(real, kv_tokens=8192, prefix_cache=False) as alone:
        expected = alone.generate(LONG, max_tokens=12).tokens
    with Engine.of(real, kv_tokens=8192) as engine:
        entrance = enter_by_pieces(engine, tmp_path / "s", lambda channel: KillingChannel(channel, other))
        made = engine.generate(LONG, max_tokens=12)
        assert made.tokens == expected
        assert (entrance.num_handed, entrance.num_failed) == (0, 1)
        assert 0 < made.usage.cached_tokens < made.usage.prompt_tokens / 2
        entrance.close()
        engine.with_cache(lambda cache: cache.check())
        assert engine.stats().cache.leased == 0
