"""Models with windows and states give the same greedy tokens whatever the cache, its marks, chunks and batches do
(invariant 1), and say what was found, replayed and computed."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stemma
from stemma.kernels.memory import allocate
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from tests.runtime.engine.marked import KINDS, WINDOW, marked

BEGINNING = "a beginning that all of them have, longer than any window is; "
PROMPTS = [BEGINNING + "then one end", BEGINNING + "then another", "something else", "x"]
SIZES = {"kv_tokens": 4096, "block_size": 4, "mark_share": 0.5}


@pytest.fixture(scope="module", params=["reference", "auto"])
def ops(request):
    return ReferenceOps(torch.device("cpu"), torch.float64) if request.param == "reference" else select_ops()


@pytest.fixture(scope="module", params=sorted(KINDS))
def loaded(request, ops):
    return marked(ops, request.param)


@pytest.fixture(scope="module")
def alone(loaded):
    """Each prompt computed alone, without a cache."""
    with Engine.of(loaded, prefix_cache=False, **SIZES) as engine:
        return [engine.generate(prompt, max_tokens=24).tokens for prompt in PROMPTS]


@contextmanager
def running(loaded, **options):
    """An engine whose pools are whole in the end, with nothing held."""
    with Engine.of(loaded, **{**SIZES, **options}) as engine:
        yield engine
        stats = engine.stats()
        assert stats.num_running == stats.num_waiting == 0
        marks = stats.cache.marks
        assert (stats.cache.leased, marks.leased_slots, marks.leased_window_blocks) == (0, 0, 0)
        engine.with_cache(lambda cache: cache.check())


def tokens(completions):
    return [completion.tokens for completion in completions]


def test_the_models_are_of_the_kinds(loaded):
    needs = loaded.config.marks
    assert needs.window in (None, WINDOW)
    assert needs.window or needs.has_states


def test_batched_with_others_without_a_cache(loaded, alone):
    with running(loaded, prefix_cache=False) as engine:
        assert tokens(engine.generate(PROMPTS, max_tokens=24)) == alone


def test_without_a_cache_no_mark_is_made(loaded):
    with running(loaded, prefix_cache=False) as engine:
        engine.generate(BEGINNING * 4, max_tokens=4)
        marks = engine.stats().cache.marks
        assert (marks.num_marks, marks.refused, marks.evicted, marks.cached_slots) == (0, 0, 0, 0)


def test_cold_then_warm(loaded, alone):
    with running(loaded) as engine:
        assert tokens(engine.generate(PROMPTS, max_tokens=24)) == alone
        warm = engine.generate(PROMPTS, max_tokens=24)
        assert tokens(warm) == alone
        assert all(item.usage.prefilled_tokens + item.usage.replayed_tokens == 1 for item in warm)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunked_prefill(loaded, alone, chunk):
    with running(loaded, max_chunk=chunk) as engine:
        for _ in range(2):
            assert tokens(engine.generate(PROMPTS, max_tokens=24)) == alone


@pytest.mark.parametrize("block_size", [1, 5, 32])
def test_block_sizes(loaded, alone, block_size):
    with running(loaded, block_size=block_size) as engine:
        for _ in range(2):
            assert tokens(engine.generate(PROMPTS, max_tokens=24)) == alone


def test_a_junction_is_replayed_once_and_then_hit_to_the_token(loaded):
    prompts = [BEGINNING + end for end in ("1 one", "2 two", "3 three")]
    with running(loaded, prefix_cache=False) as engine:
        expected = tokens(engine.generate(prompts, max_tokens=24))
    with running(loaded) as engine:
        usages = []
        for prompt, each in zip(prompts, expected, strict=True):
            completion = engine.generate(prompt, max_tokens=24)
            assert completion.tokens == each
            usages.append(completion.usage)
    counts = [(usage.cached_tokens + usage.replayed_tokens, usage.prefilled_tokens) for usage in usages]
    assert counts == [(0, len(prompts[0])), (len(BEGINNING), 5), (len(BEGINNING), 7)]
    assert usages[2].cached_tokens == len(BEGINNING), "the second one left a mark where it parted from the first"


def test_marks_evicted(loaded, alone):
    """Room for few marks: what is not found is replayed or computed again."""
    with running(loaded, kv_tokens=1024, memory=2 * bytes_of_marks(loaded, 5), max_chunk=16, max_running=1) as engine:
        for _ in range(3):
            for prompt, expected in zip(PROMPTS, alone, strict=True):
                assert engine.generate(prompt, max_tokens=24).tokens == expected
        assert engine.stats().cache.marks.evicted > 0


def test_preempted_and_resumed(loaded):
    prompts = [f"{index}: some text" for index in range(6)]
    with running(loaded, prefix_cache=False) as engine:
        expected = tokens(engine.generate(prompts, max_tokens=60, ignore_eos=True))
    with running(loaded, kv_tokens=160) as engine:
        for _ in range(30):
            engine.generate("x", max_tokens=1)  # so that answers are taken to be short
        completions = engine.generate(prompts, max_tokens=60, ignore_eos=True)
        assert tokens(completions) == expected
        assert engine.stats().metrics.num_preempted > 0


def test_samples_of_one_prompt_go_on_from_one_mark(loaded):
    prompt = [ord(character) for character in BEGINNING]
    with running(loaded) as engine:
        single = engine.generate(prompt, max_tokens=12, temperature=1.0, seed=4).tokens
        engine.with_cache(lambda cache: cache.clear())
        samples = engine.sample(prompt, 4, max_tokens=12, temperature=1.0, seed=4)
        assert samples[0].tokens == single
        assert len(set(tokens(samples))) > 1
        assert [sample.usage.prefilled_tokens for sample in samples[1:]] == [1, 1, 1]
        assert [sample.usage.replayed_tokens for sample in samples[1:]] == [0, 0, 0]


def test_a_crowd_behind_one_beginning_computes_it_once(loaded):
    prompts = [[*BEGINNING.encode(), 65 + index, 66] for index in range(12)]
    with running(loaded, max_chunk=16) as engine:
        usages = [completion.usage for completion in engine.generate(prompts, max_tokens=4)]
    assert sum(usage.replayed_tokens for usage in usages) == 0
    assert sum(usage.prefilled_tokens for usage in usages) == len(BEGINNING) + 12 * 2


def test_jumps_and_refused_drafts_leave_no_trace(loaded):
    form = stemma.Regex(r"(cost|cold|count|copper): (\d\d, )+(and (none|more|moss)|as above)\.")
    prompts = [BEGINNING + end for end in ("1", "2", "3", "4")]
    options = {"grammar": form, "max_tokens": 60}
    with running(loaded, prefix_cache=False, jump_forward=False) as engine:
        expected = [engine.generate(prompt, **options).tokens for prompt in prompts]
    with running(loaded) as engine:
        for _ in range(2):
            completions = engine.generate(prompts, **options)
            assert tokens(completions) == expected
        assert sum(completion.usage.jumped_tokens for completion in completions) > 0


def test_a_mark_is_left_where_it_is_said_that_others_go_on(loaded):
    with running(loaded) as engine:
        engine.generate(BEGINNING + "1 one", max_tokens=4, marks_at=[len(BEGINNING)])
        usage = engine.generate(BEGINNING + "2 two", max_tokens=4).usage
        assert (usage.cached_tokens, usage.replayed_tokens) == (len(BEGINNING), 0)
        with pytest.raises(InvalidRequest, match="no place"):
            engine.generate("x", marks_at=[2])


def test_a_chat_goes_on_from_where_it_ended(loaded):
    with running(loaded) as engine:
        first = engine.generate(BEGINNING, max_tokens=20, ignore_eos=True)
        history = [*BEGINNING.encode(), *first.tokens, *b" and so?"]
        second = engine.generate(history, max_tokens=20)
        assert second.usage.cached_tokens == len(BEGINNING) + 19, "the last token was never computed"
        assert second.usage.replayed_tokens == 0
    with running(loaded, prefix_cache=False) as engine:
        assert engine.generate(history, max_tokens=20).tokens == second.tokens


def test_what_a_hold_keeps_is_gone_on_with_whatever_else_is_evicted(loaded):
    with running(loaded, memory=2 * bytes_of_marks(loaded, 8), kv_tokens=1024, max_chunk=16, max_running=1) as engine:
        hold = engine.hold(pinned_for=60.0)
        engine.submit(BEGINNING, max_tokens=0, hold=hold).result()
        for index in range(8):
            engine.generate(f"{index} other texts, each of which leaves marks of its own", max_tokens=8)
        assert engine.stats().cache.marks.evicted > 0
        usage = engine.generate(BEGINNING + "!", max_tokens=1).usage
        assert (usage.cached_tokens, usage.replayed_tokens) == (len(BEGINNING), 0)
        hold.release()


@settings(max_examples=12, deadline=None)
@given(
    prompts=st.lists(st.text("ab", min_size=1, max_size=40), min_size=1, max_size=6),
    block_size=st.sampled_from([1, 4, 16]),
    pool=st.integers(80, 200),
    marks=st.integers(4, 30),
    chunk=st.sampled_from([1, 7, 64]),
    max_running=st.integers(1, 4),
    grammar=st.sampled_from([None, stemma.Regex("(ab|abc|ba+c|[ab]{3}c){2,5}"), stemma.Regex("a{4}(b|cc){1,6}c")]),
)
def test_any_schedule(loaded, prompts, block_size, pool, marks, chunk, max_running, grammar):
    options = {"max_tokens": 12} if grammar is None else {"max_tokens": 12, "grammar": grammar}
    with running(loaded, prefix_cache=False, jump_forward=False) as engine:
        expected = [engine.generate(prompt, **options).tokens for prompt in prompts]
    sizes = {"block_size": block_size, "max_chunk": chunk, "max_running": max_running}
    memory = 2 * bytes_of_marks(loaded, marks + chunk + 4 * block_size)
    with running(loaded, kv_tokens=pool, memory=memory, **sizes) as engine:
        for _ in range(2):
            assert tokens(engine.generate(prompts, **options)) == expected


def test_a_request_that_is_given_up_leaves_nothing(loaded):
    for steps in range(6):
        with running(loaded, max_chunk=16) as engine:
            generation = engine.submit(BEGINNING, max_tokens=1500, ignore_eos=True)
            stream = iter(generation)
            for _ in range(steps):
                next(stream, None)
            generation.cancel()
            assert generation.result().finish_reason == "abort"
            engine.generate("x", max_tokens=1)


def test_a_saved_cache_is_loaded_with_its_marks(loaded, alone, tmp_path):
    with running(loaded) as engine:
        assert tokens(engine.generate(PROMPTS, max_tokens=24)) == alone
        saved = engine.save_cache(tmp_path / "cache.kv")
        usages = [completion.usage for completion in engine.generate(PROMPTS, max_tokens=24)]
    with running(loaded, kv_tokens=8192, block_size=4) as engine:
        assert engine.load_cache(tmp_path / "cache.kv") == saved
        again = engine.generate(PROMPTS, max_tokens=24)
        assert tokens(again) == alone
        assert [completion.usage for completion in again] == usages
        assert engine.load_cache(tmp_path / "cache.kv").num_skipped == 0


def bytes_of_marks(loaded, count):
    one = allocate(loaded.model.ops, loaded.config.memory_shape(1, 4, num_window_blocks=3, num_slots=1))
    return count * sum(pool.num_bytes for pool in one[1:] if pool is not None)
