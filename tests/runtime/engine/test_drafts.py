"""Tokens are the same with and without drafts, from any source, greedy and sampled; what was done is counted."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.core.drafts.drafter import Drafter
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from tests.runtime.core.making import Guesses
from tests.runtime.engine.schedules import SIZES, TEXTS

SOURCES = [("none",), ("tree",), ("prompt",), ("grammar",), ("tree", "prompt", "grammar")]
PROMPTS = ["abcabcabcabcab", "the same, the same, the sam", "x", "abcabcabcabcab and more"]
SAMPLED = {"temperature": 1.0, "top_p": 0.9, "seed": 11}
PENALISED = {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": 0.3}
FORM = JSONSchema(
    {
        "type": "object",
        "properties": {
            "name": {"enum": ["abc", "abd"]},
            "is_right": {"type": "boolean"},
            "why": {"enum": ["long one", "other"]},
        },
        "required": ["name", "is_right", "why"],
    }
)


def tokens(completions):
    return [completion.tokens for completion in completions]


@pytest.fixture(
    scope="module",
    params=[{}, SAMPLED, {**SAMPLED, "logprobs": 2}, PENALISED, SAMPLED | PENALISED],
    ids=["greedy", "sampled", "logprobs", "penalised", "sampled, penalised"],
)
def asked(request, loaded):
    """Options, and each prompt computed with them alone, without a cache and without drafts."""
    options = {"max_tokens": 40, **request.param}
    with Engine.of(loaded, kv_tokens=4096, prefix_cache=False, drafts_from=("none",)) as engine:
        return options, [engine.generate(prompt, **options).tokens for prompt in PROMPTS]


@pytest.mark.parametrize("sources", SOURCES, ids="+".join)
@pytest.mark.parametrize("sizes", [{}, {"kv_tokens": 128, "block_size": 4}, {"max_chunk": 7}], ids=str)
def test_every_source_gives_the_same_tokens(make, asked, sources, sizes):
    options, alone = asked
    engine = make(drafts_from=sources, **sizes)
    engine.with_scheduler(never_told)
    for _ in range(3):
        assert tokens(engine.generate(PROMPTS, **options)) == alone
    drafts = engine.stats().metrics.drafts
    assert set(drafts) == set(sources) - {"none"}
    assert all(count.accepted <= count.proposed for count in drafts.values())
    if "tree" in sources and not sizes:
        assert drafts["tree"].accepted > 0


@pytest.mark.parametrize("sources", SOURCES, ids="+".join)
def test_every_source_keeps_to_a_grammar(make, sources):
    plain, engine = make(drafts_from=("none",)), make(drafts_from=sources)
    for options in ({}, SAMPLED):
        asked = {"grammar": FORM, "max_tokens": 60, **options}
        expected = plain.generate(PROMPTS, **asked)
        for _ in range(3):
            again = engine.generate(PROMPTS, **asked)
            assert tokens(again) == tokens(expected)
            assert [made.jumped for made in again] == [made.jumped for made in expected]


def garbage(seen: list[int]) -> list[int]:
    """Nothing that a model says, and much that no grammar allows."""
    return [(31 * seen[-1] + len(seen) + at) % 256 for at in range(9)]


def test_garbage_is_computed_and_thrown_away(make, asked):
    options, alone = asked
    engine = make()
    engine.with_scheduler(partial(put, garbage))
    assert tokens(engine.generate(PROMPTS, **options)) == alone
    counted = engine.stats().metrics.drafts["test"]
    assert counted.proposed > 0
    assert counted.accepted < counted.proposed / 4
    plain = make(drafts_from=("none",)).generate(PROMPTS, grammar=FORM, max_tokens=60)
    assert tokens(engine.generate(PROMPTS, grammar=FORM, max_tokens=60)) == tokens(plain)


def never_told(scheduler):
    """Rows stay as cheap as they are thought to be at first, whatever else the machine does."""
    scheduler.drafter.took = lambda batch, seconds: None


def put(guess, scheduler):
    scheduler.placing.drafter = Drafter({"test": lambda: Guesses(guess)}, 1024)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(TEXTS, min_size=1, max_size=6),
    sizes=SIZES,
    chosen=st.sampled_from([{}, SAMPLED, PENALISED, SAMPLED | PENALISED]),
)
def test_any_schedule(loaded, prompts, sizes, chosen):
    options = {"max_tokens": 12, **chosen}
    with Engine.of(loaded, kv_tokens=4096, prefix_cache=False, drafts_from=("none",)) as engine:
        expected = [engine.generate(prompt, **options).tokens for prompt in prompts]
    for guess in (None, garbage):
        with Engine.of(loaded, **sizes) as engine:
            if guess is not None:
                engine.with_scheduler(partial(put, guess))
            for _ in range(2):
                assert tokens(engine.generate(prompts, **options)) == expected
            assert engine.stats().cache.leased == 0


def test_a_completion_tells_of_its_drafts(make):
    engine = make()
    engine.with_scheduler(never_told)
    first, again = (engine.generate("x", max_tokens=40) for _ in range(2))
    assert again.tokens == first.tokens
    assert 0 < again.num_accepted <= again.num_drafted
    off = engine.generate("x", max_tokens=40, drafts=False)
    assert (off.tokens, off.num_drafted, off.num_accepted) == (first.tokens, 0, 0)


def test_a_text_with_penalties_is_guessed_too(make):
    engine = make()
    engine.with_scheduler(never_told)
    first, again = (engine.generate("x", max_tokens=40, **PENALISED) for _ in range(2))
    assert again.tokens == first.tokens != engine.generate("x", max_tokens=40).tokens
    assert again.num_accepted > 20


def test_sources_are_names_and_none_stands_alone(make):
    with pytest.raises(InvalidRequest) as refused:
        make(drafts_from=("none", "tree"))
    assert refused.value.param == "drafts_from"
    with pytest.raises(InvalidRequest):
        make(drafts_from=("oracle",))
