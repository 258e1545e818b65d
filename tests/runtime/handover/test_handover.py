"""Prefill here, decode there: the same tokens as in one engine, whatever goes wrong on the way."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.errors import DeadlineMissed, InvalidRequest
from stemma.runtime.handover import DecodeEntrance, HandoverError, Taker, connect, listen
from stemma.runtime.handover.protocol import Ask, Done, Hello, Piece, Refused
from stemma.runtime.handover.shared_memory import SharedMemoryChannel
from stemma.runtime.model.tiny import tiny
from tests.runtime.handover.sides import HALF, enter, listening


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


@contextmanager
def apart(loaded, path: Path, other=None, **options):
    """An engine that decodes, whose prompts are computed by another: (decoding engine, its entrance, the other one)."""
    options = {"kv_tokens": 4096, "max_chunk": 32, **options}
    giving, taking = Engine.of(other or loaded, **options), Engine.of(loaded, **options)
    with giving, taking, listening(path, giving):
        entrance = enter(taking, path)
        yield taking, entrance, giving
        entrance.close()
        for engine in (giving, taking):
            engine.with_cache(lambda cache: cache.check())


@pytest.fixture(scope="module", params=["llama", "gemma3_text", "qwen3_next", "deepseek_v2", "falcon_h1"])
def loaded(request):
    return tiny(select_ops("cpu", "cpu"), request.param)


def test_tokens_are_those_of_one_engine_and_nothing_is_computed_twice(loaded, tmp_path):
    prompts = [prompt(length, length) for length in (70, 128, 129, 333)]
    prompts += [[*prompts[3], *prompt(80, 9)]]  # goes on where another one ended
    with Engine.of(loaded, kv_tokens=4096) as alone:
        expected = [alone.generate(ids, max_tokens=12).tokens for ids in prompts]
    with apart(loaded, tmp_path / "s") as (engine, entrance, giving):
        for ids, tokens in zip(prompts, expected, strict=True):
            completion = engine.generate(ids, max_tokens=12)
            assert completion.tokens == tokens
            assert completion.usage.prefilled_tokens == 1
        assert (entrance.num_handed, entrance.num_failed) == (len(prompts), 0)
        assert giving.stats().num_running == 0


def test_pieces_come_while_the_rest_is_computed_and_are_no_larger_than_the_memory(tiny_loaded, tmp_path):
    giving, taking = Engine.of(tiny_loaded, kv_tokens=4096, max_chunk=32), Engine.of(tiny_loaded, kv_tokens=4096)
    with giving, taking, listening(tmp_path / "s", giving):
        saver = taking.saver()
        channel = connect(tmp_path / "s", 4 * saver.memory.block_bytes)
        channel.send(Hello(saver.identity, list(saver.probe)))
        assert isinstance(channel.receive()[0], Hello)
        ids = prompt(1000)
        channel.send(Ask(ids, "", None, 2))
        pieces, end = [], 32
        while not isinstance(message := channel.receive()[0], Done):
            assert isinstance(message, Piece)
            assert message.first * 16 == end
            assert message.end - end <= 64
            pieces.append(message)
            end = message.end
        assert end == 1000
        assert len(pieces) >= 15
        channel.close()


def test_many_at_once_and_samples_of_one_prompt(tiny_loaded, tmp_path):
    prompts = [prompt(100 + number, number) for number in range(12)]
    with Engine.of(tiny_loaded, kv_tokens=8192) as alone:
        expected = [made.result().tokens for made in alone.submit_all(prompts, max_tokens=8)]
        samples = [made.result().tokens for made in alone.submit_samples(prompts[0], 4, temperature=1.0, seed=3)]
    with apart(tiny_loaded, tmp_path / "s", kv_tokens=8192) as (engine, entrance, _):
        made = [engine.submit(ids, max_tokens=8) for ids in prompts]
        assert [each.result().tokens for each in made] == expected
        drawn = engine.submit_samples(prompts[0], 4, temperature=1.0, seed=3)
        assert [each.result().tokens for each in drawn] == samples
        assert entrance.num_failed == 0
        assert entrance.num_handed == len(prompts)


def test_namespaces_stay_apart_on_both_sides(tiny_loaded, tmp_path):
    ids = prompt(100)
    with apart(tiny_loaded, tmp_path / "s") as (engine, _, giving):
        engine.generate(ids, max_tokens=2, namespace="a")
        for side in (engine, giving):
            assert side.explain(ids, "a").match_len >= 99
            assert side.explain(ids, "b", looks_elsewhere=False).match_len == 0


def test_short_and_cached_prompts_are_not_asked_for(tiny_loaded, tmp_path):
    with apart(tiny_loaded, tmp_path / "s") as (engine, entrance, _):
        engine.generate(prompt(40, 8), max_tokens=2)
        engine.generate(prompt(100), max_tokens=2)
        engine.generate([*prompt(100), 1, 2, 3], max_tokens=2)
        assert (entrance.num_handed, entrance.num_failed) == (1, 0)


class Silent:
    """A connection to an engine that has been asked and says nothing, until it goes."""

    room = HALF

    def __init__(self, saver, asked: SimpleQueue[Ask]) -> None:
        self._asked = asked
        self.has_gone = threading.Event()
        self._answers = [Hello(saver.identity, list(saver.probe))]

    def send(self, message, data=()):
        if isinstance(message, Ask):
            self._asked.put(message)

    def receive(self, seconds=math.inf):
        if self._answers:
            return self._answers.pop(), memoryview(b"")
        self.has_gone.wait(None if seconds == math.inf else seconds)
        raise HandoverError("it says nothing")

    def close(self):
        pass


@contextmanager
def beside_a_silent_one(loaded, **options):
    """An engine, its entrance, all connections that it opened, and what it asked."""
    with Engine.of(loaded, **{"kv_tokens": 8192, **options}) as engine:
        saver, made, entrances, asked = engine.saver(), [], [], SimpleQueue()

        def connect(_):
            made.append(Silent(saver, asked))
            return Taker(made[-1], saver)

        def make(loop):
            entrances.append(DecodeEntrance(loop, connect, lambda: "there"))
            return entrances[0]

        engine.enter_by(make)
        yield engine, entrances[0], made, asked
        for each in made:
            each.has_gone.set()
        entrances[0].close()


def test_who_has_its_prompt_cached_waits_behind_nobody(tiny_loaded):
    with beside_a_silent_one(tiny_loaded) as (engine, entrance, _, _):
        known = prompt(200, 1)
        entrance._where = lambda: None
        expected = engine.generate(known, max_tokens=4).tokens
        entrance._where = lambda: "there"
        waiting = [engine.submit(prompt(300, seed), max_tokens=2, namespace="greedy") for seed in range(2, 42)]
        assert engine.generate(known, max_tokens=4).tokens == expected
        assert not any(each.is_done for each in waiting)
        for each in waiting:
            each.cancel()


def test_the_other_engine_hears_of_all_at_once_and_how_they_matter(tiny_loaded):
    with beside_a_silent_one(tiny_loaded) as (engine, _, _, asked):
        waiting = [
            engine.submit(prompt(100, seed), max_tokens=2, namespace="a", priority=seed, ttft_ms=1e6)
            for seed in range(1, 31)
        ]
        told = sorted((asked.get(timeout=60) for _ in waiting), key=lambda ask: ask.priority)
        assert [ask.priority for ask in told] == list(range(1, 31))
        assert all(0 < ask.ttft <= 1000 and ask.namespace == "a" for ask in told)
        for each in waiting:
            each.cancel()


def test_whose_time_is_over_is_told_though_the_other_engine_says_nothing(tiny_loaded):
    with beside_a_silent_one(tiny_loaded) as (engine, _, made, _):
        with pytest.raises(DeadlineMissed):
            engine.generate(prompt(300), max_tokens=2, ttft_ms=50)
        (silent,) = made
        assert not silent.has_gone.is_set()  # nobody waited for that


def test_who_comes_when_it_is_closed_goes_straight_in(tiny_loaded):
    with beside_a_silent_one(tiny_loaded) as (engine, entrance, made, _):
        entrance.close()
        assert engine.generate(prompt(300), max_tokens=2).usage.prefilled_tokens == 300
        assert made == []


def test_without_the_other_engine_prompts_are_computed_here_and_it_is_told(tiny_loaded, tmp_path, caplog):
    ids = prompt(100)
    with Engine.of(tiny_loaded, kv_tokens=4096) as engine:
        expected = engine.generate(ids, max_tokens=6).tokens
        engine.with_cache(lambda cache: cache.clear())
        entrance = enter(engine, tmp_path / "nobody")
        assert engine.generate(ids, max_tokens=6).tokens == expected
        assert entrance.num_failed == 1
        assert "nobody listens" in caplog.text


def test_kv_of_another_model_is_refused_by_name(tiny_loaded, tmp_path):
    other = tiny(select_ops("cpu", "cpu"), "llama", seed=1)
    own = tiny(select_ops("cpu", "cpu"), "llama")
    ids = prompt(100)
    with Engine.of(own, kv_tokens=4096) as alone:
        expected = alone.generate(ids, max_tokens=6).tokens
    with apart(own, tmp_path / "s", other) as (engine, entrance, _):
        assert engine.generate(ids, max_tokens=6).tokens == expected
        assert entrance.num_failed == 1
    giving, taking = Engine.of(other, kv_tokens=4096), Engine.of(own, kv_tokens=4096)
    with giving, taking, listening(tmp_path / "t", giving):
        saver, channel = taking.saver(), connect(tmp_path / "t", HALF)
        with pytest.raises(HandoverError, match="other weights"):
            Taker(channel, saver)


def test_a_cancelled_request_ends_before_or_behind_its_prompt(tiny_loaded, tmp_path):
    with apart(tiny_loaded, tmp_path / "s", kv_tokens=8192) as (engine, _, giving):
        made = [engine.submit(prompt(900, number), max_tokens=50) for number in range(6)]
        for each in made:
            each.cancel()
        assert {each.result(60).finish_reason for each in made} <= {"abort", "length"}
        assert engine.generate(prompt(90, 77), max_tokens=3).finish_reason == "length"
        assert giving.generate(prompt(90, 78), max_tokens=3).finish_reason == "length"


def test_what_the_other_engine_refuses_is_computed_here(tiny_loaded, tmp_path):
    giving, taking = Engine.of(tiny_loaded, kv_tokens=128), Engine.of(tiny_loaded, kv_tokens=4096)
    with giving, taking, listening(tmp_path / "s", giving):
        taker = Taker(connect(tmp_path / "s", HALF), taking.saver())
        with pytest.raises(HandoverError, match="kv_tokens"):
            taker.take(np.array(prompt(500), np.int32), "", None)


def test_where_there_is_no_room_less_is_taken_and_the_rest_computed(tiny_loaded, tmp_path):
    giving, taking = Engine.of(tiny_loaded, kv_tokens=4096), Engine.of(tiny_loaded, kv_tokens=256)
    with giving, taking, listening(tmp_path / "s", giving):
        full = taking.generate(prompt(200, 5), max_tokens=8).tokens  # fills most of it
        taker = Taker(connect(tmp_path / "s", HALF), taking.saver())
        assert taker.take(np.array(prompt(200), np.int32), "", None) < 200
        taking.with_cache(lambda cache: cache.check())
        assert taking.generate(prompt(200, 5), max_tokens=8).tokens == full


def send_three(channel: SharedMemoryChannel) -> None:
    for _ in range(3):
        channel.send(Done())


def test_a_process_that_dies_is_heard(tmp_path):
    listener = listen(tmp_path / "s")
    ends = iter(listener)
    made = []
    thread = threading.Thread(target=lambda: made.append(connect(tmp_path / "s", HALF)))
    thread.start()
    here = next(ends)
    thread.join()
    assert isinstance(here, SharedMemoryChannel)
    made[0].close()
    with pytest.raises(HandoverError, match="gone"):
        here.receive()
    with pytest.raises(HandoverError, match="gone"):
        send_three(here)
    listener.close()


def test_a_third_piece_waits_until_the_first_was_taken(tmp_path):
    listener = listen(tmp_path / "s")
    made = []
    thread = threading.Thread(target=lambda: made.append(connect(tmp_path / "s", HALF)))
    thread.start()
    here = next(iter(listener))
    thread.join()
    there = made[0]
    order = []

    def sends():
        for number in range(5):
            here.send(Refused(f"{number}"), [bytes([number]) * HALF])
            order.append(number)

    sender = threading.Thread(target=sends)
    sender.start()
    for number in range(5):
        message, data = there.receive()
        assert len(order) <= number + 3
        assert (message.why, bytes(data)) == (f"{number}", bytes([number]) * HALF)
    there.send(Done())  # the last `taken` goes with what is said next
    assert isinstance(here.receive()[0], Done)
    sender.join()
    with pytest.raises(HandoverError, match="do not fit"):
        here.send(Done(), [bytes(HALF + 1)])
    here.close()
    listener.close()


def test_a_path_that_cannot_be_listened_at_is_refused(tmp_path):
    with pytest.raises(InvalidRequest) as refused:
        listen(tmp_path / "no" / "folder")
    assert refused.value.param == "handover"


OTHER = """
import sys
from pathlib import Path
from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.handover import PrefillService, listen
from stemma.runtime.model.tiny import tiny
with Engine.of(tiny(select_ops("cpu", "cpu"), "llama"), kv_tokens=4096) as engine:
    listener = listen(Path(sys.argv[1]))
    print("ready", flush=True)
    PrefillService(engine).serve(listener)
"""


def test_two_processes_and_one_that_is_killed(tmp_path, caplog):
    loaded, path = tiny(select_ops("cpu", "cpu"), "llama"), tmp_path / "s"
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(path)], stdout=subprocess.PIPE)
    with Engine.of(loaded, kv_tokens=4096) as alone:
        expected = [alone.generate(prompt(300, seed), max_tokens=8).tokens for seed in range(2)]
    assert other.stdout is not None
    assert other.stdout.readline() == b"ready\n"
    with Engine.of(loaded, kv_tokens=4096) as engine:
        entrance = enter(engine, path)
        first = engine.generate(prompt(300, 0), max_tokens=8)
        assert (first.tokens, first.usage.prefilled_tokens) == (expected[0], 1)
        other.kill()
        other.wait()
        second = engine.generate(prompt(300, 1), max_tokens=8)
        assert (second.tokens, second.usage.prefilled_tokens) == (expected[1], 300)
        assert entrance.num_failed == 1
        entrance.close()
