"""A smaller model that guesses: the same tokens with it, its KV in step with what was right, its refusals by name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.fsm.json_schema import JSONSchema
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny, tiny_config, tiny_tensors
from tests.runtime.engine.schedules import SIZES, TEXTS

PROMPTS = ["abcabcabcabcab", "the same, the same, the sam", "x", "abcabcabcabcab and more"]
SAMPLED = {"temperature": 1.0, "top_p": 0.9, "seed": 11}
PENALISED = {"repetition_penalty": 1.3, "frequency_penalty": 0.4}
FORM = JSONSchema({"type": "object", "properties": {"name": {"enum": ["abc", "abd"]}, "is_right": {"type": "boolean"}}})


def tokens(completions):
    return [completion.tokens for completion in completions]


@pytest.fixture(scope="module")
def drafts(loaded):
    """A model that guesses badly, and one that says what the model says."""
    return {"another": tiny(loaded.model.ops, seed=1), "itself": loaded}


@pytest.fixture
def build(loaded, drafts):
    made = []

    def start(name, **options):
        engine = Engine.of(loaded, drafts[name], **{"kv_tokens": 4096, "drafts_from": ("none",), **options})
        engine._draft._clock = lambda: 0.0  # as though it took no time, and drafts little: or it would hardly be asked
        engine.with_scheduler(lambda scheduler: setattr(scheduler.drafter, "took", lambda batch, seconds: None))
        made.append(engine)
        return engine

    yield start
    for engine in made:
        engine.stats()
        draft = engine._draft
        assert draft.cache.stats().leased == 0
        assert not draft._followers
        draft.cache.check()
        engine.close()


@pytest.mark.parametrize("name", ["another", "itself"])
@pytest.mark.parametrize("asked", [{}, SAMPLED, {**SAMPLED, "logprobs": 1}, {"grammar": FORM}, PENALISED], ids=str)
@pytest.mark.parametrize("sizes", [{}, {"kv_tokens": 128, "block_size": 4}, {"max_chunk": 7}], ids=str)
def test_the_tokens_are_the_same_with_it(loaded, build, name, asked, sizes):
    options = {"max_tokens": 40, **asked}
    with Engine.of(loaded, kv_tokens=4096, prefix_cache=False, drafts_from=("none",)) as plain:
        alone = [plain.generate(prompt, **options).tokens for prompt in PROMPTS]
    engine = build(name, **sizes)
    for _ in range(2):
        assert tokens(engine.generate(PROMPTS, **options)) == alone


def test_who_says_the_same_is_right(build):
    engine = build("itself")
    for asked in ({}, SAMPLED, SAMPLED | PENALISED):
        made = engine.generate("x", max_tokens=60, **asked)
        assert made.num_drafted > 10
        assert made.num_accepted == made.num_drafted
    counted = engine.stats().metrics.drafts["model"]
    assert counted.accepted == counted.proposed > 0


def test_kv_that_was_right_is_not_computed_again(build):
    engine = build("itself")
    runner, computed = engine._draft._runner, []
    forward = runner.forward

    def counting(batch):
        computed.extend(len(row.tokens) for row in batch.rows)
        return forward(batch)

    runner.forward = counting
    made = engine.generate("abc", max_tokens=60)
    assert made.num_accepted > 10
    assert sum(computed) <= 3 + 60


@settings(max_examples=8, deadline=None)
@given(
    prompts=st.lists(TEXTS, min_size=1, max_size=5),
    sizes=SIZES,
    sampled=st.booleans(),
)
def test_any_schedule(loaded, drafts, prompts, sizes, sampled):
    options = {"max_tokens": 12, **(SAMPLED if sampled else {})}
    with Engine.of(loaded, kv_tokens=4096, prefix_cache=False, drafts_from=("none",)) as engine:
        expected = [engine.generate(prompt, **options).tokens for prompt in prompts]
    for draft in drafts.values():
        with Engine.of(loaded, draft, **sizes) as engine:
            for _ in range(2):
                assert tokens(engine.generate(prompts, **options)) == expected
            assert engine._draft.cache.stats().leased == 0
            engine._draft.cache.check()


def test_what_it_cannot_compute_is_guessed_by_nobody(build):
    """Trouble with one row of it is no trouble of the request's."""
    engine = build("itself")
    sample, calls = engine._draft._sampler.sample, []

    def failing(batch, output):
        calls.append(len(batch.rows))
        if len(calls) % 2 and batch.rows[0].sequence.request.max_tokens > 1:
            raise RuntimeError("no")
        return sample(batch, output)

    expected = engine.generate("x", max_tokens=30, drafts=False).tokens
    engine._draft._sampler.sample = failing
    assert engine.generate("x", max_tokens=30).tokens == expected
    assert calls


def test_another_vocabulary_is_refused_by_its_first_difference():
    ops = ReferenceOps(torch.device("cpu"))
    config = tiny_config("llama", 262)
    specials = byte_tokenizer("<|tool|>", "<|call|>")
    other = assemble(Checkpoint(config, tiny_tensors(config, 0), specials, GenerationDefaults((256,))), ops)
    with pytest.raises(InvalidRequest, match=r"token 260 is the special '<\|tool\|>' there and none here") as refused:
        Engine.of(tiny(ops), other)
    assert refused.value.param == "draft"


def test_ids_without_a_token_are_no_difference():
    ops = ReferenceOps(torch.device("cpu"))
    padded = tiny(ops, vocab_size=300)
    for loaded, draft in ((tiny(ops), padded), (padded, tiny(ops))):
        with Engine.of(loaded, draft, kv_tokens=1024) as engine, Engine.of(loaded, kv_tokens=1024) as alone:
            assert engine.generate("hello", max_tokens=8).tokens == alone.generate("hello", max_tokens=8).tokens


def test_a_draft_model_with_states_is_refused():
    ops = ReferenceOps(torch.device("cpu"))
    with pytest.raises(InvalidRequest, match="windows or states") as refused:
        Engine.of(tiny(ops), tiny(ops, "mamba2"))
    assert refused.value.param == "draft"
