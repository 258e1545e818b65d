"""A value of any kind for any option is honoured, or refused by the option's name before the loop sees it."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.regex import Regex
from stemma.runtime.core.checking import describe
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.engine import Engine, EngineConfig, EngineOptions, RequestOptions
from stemma.runtime.engine.generation import Completion
from stemma.runtime.errors import DeadlineMissed, InvalidRequest, RequestFailed
from stemma.server import ServerConfig

PATIENCE = 30.0


class Hostile:
    """Nothing can be asked of it."""

    def __getattr__(self, name):
        raise ZeroDivisionError(name)

    __repr__ = __len__ = __iter__ = __float__ = __int__ = __index__ = __bool__ = __hash__ = __getattr__


NUMBERS = st.one_of(
    st.integers(-5, 50),
    st.integers(),
    st.just(5000).map(lambda digits: 10**digits),
    st.floats(),
    st.floats(0, 2),
    st.sampled_from([1e-300, 1e-40]),
)
NUMPY = st.one_of(
    st.integers(-5, 50).map(np.int64), st.integers(0, 255).map(np.uint8), st.floats(0, 1, width=32).map(np.float32),
    st.floats().map(np.float64), st.just(np.True_), st.just(np.array(3)), st.just(np.array([1, 2])),
    st.just(np.array([0.5])), st.just(np.datetime64("2026-01-01")), st.just(np.str_("ab")),
)  # fmt: skip
ODD = st.just(Hostile).map(lambda kind: kind()) | st.sampled_from(
    [ object(), int, len, ..., 1j, Decimal("0.5"), Fraction(1, 2), range(3), Path("x"), iter([1]),
     Regex("[a-z]+"), JSONSchema({"type": "integer"}), "[a-z]+", Sampling(), Sampling, torch.tensor(1), "\ud800"]
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, NUMPY, ODD, st.text(max_size=4), st.binary(max_size=4))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.integers(-1, 300), st.floats(), st.text(max_size=2)), inner, max_size=2),
        st.frozensets(st.one_of(st.integers(-1, 300), st.text(max_size=2)), max_size=2),
    ),
    max_leaves=4,
)
KINDS = get_type_hints(RequestOptions)


@pytest.fixture(scope="module")
def engine(tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=1024) as made:
        yield made


def named(value):
    """A test's name: the same in every process, without addresses."""
    return re.sub(r"x?[0-9a-f]{6,}>", ">", describe(value))


def outcome(call):
    """What a call returns, and what it refuses."""
    try:
        return call(), None
    except InvalidRequest as refused:
        return None, refused


def check_alive(engine):
    """It answers, and has every block back."""
    assert engine.submit("ab", max_tokens=1).result(PATIENCE).tokens
    stats = engine.stats()
    assert stats.cache.leased == stats.num_running == stats.num_waiting == 0
    engine.with_cache(lambda cache: cache.check())


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_of_any_option_is_honoured_or_refused_by_name(engine, data):
    name = data.draw(st.sampled_from(sorted(KINDS)))
    options = {"max_tokens": 3, name: data.draw(VALUES, label=name)}
    if name not in ("temperature", "sampling") and data.draw(st.booleans()):
        options["temperature"] = 1.0
    if name == "sampling":
        options.pop("temperature", None)
    try:
        made, refused = outcome(lambda: engine.submit("ab", **options).result(PATIENCE))
    except DeadlineMissed:  # honoured too: a deadline of a millisecond may pass before the first step
        assert name == "ttft_ms"
    else:
        assert isinstance(made, Completion) if refused is None else (refused.param == name and str(refused))
    check_alive(engine)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES)
def test_any_prompt_is_completed_or_refused(engine, prompt):
    outcomes = [
        outcome(lambda: engine.generate(prompt, max_tokens=1)),
        outcome(lambda: engine.submit(prompt, max_tokens=1).result(PATIENCE)),
    ]
    for _, refused in outcomes:
        assert refused is None or refused.param in ("prompt", "max_tokens")
    check_alive(engine)


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({"seed": np.int64(5), "temperature": 4.0}, {"seed": 5, "temperature": 4.0}),
        ({"temperature": np.float32(0.5), "seed": 3}, {"temperature": 0.5, "seed": 3}),
        ({"top_k": np.uint8(3), "temperature": 4.0, "seed": 1}, {"top_k": 3, "temperature": 4.0, "seed": 1}),
        ({"top_k": 2**40, "temperature": 4.0, "seed": 1}, {"temperature": 4.0, "seed": 1}),
        ({"seed": 10**5000, "temperature": 4.0}, {"seed": 10**5000 % 2**64, "temperature": 4.0}),
        ({"temperature": 4, "seed": 2}, {"temperature": 4.0, "seed": 2}),
        ({"priority": np.int32(-4)}, {}),
        ({"max_tokens": np.int16(3)}, {"max_tokens": 3}),
        ({"logit_bias": {np.int64(65): np.float64(100)}}, {"logit_bias": {65: 100.0}}),
        ({"logit_bias": {65: 100.0}, "stop_token_ids": np.array([65, 66])}, {"max_tokens": 1, "logit_bias": {65: 100}}),
        ({"logit_bias": {65: 100.0}, "stop_token_ids": 65}, {"max_tokens": 1, "logit_bias": {65: 100}}),
        ({"logit_bias": {65: 100.0}, "stop": "AA"}, {"max_tokens": 2, "logit_bias": {65: 100}}),
        ({"logit_bias": {65: 100.0}, "stop": {"zz", "AA"}}, {"max_tokens": 2, "logit_bias": {65: 100}}),
        ({"logit_bias": {256: 100.0}, "ignore_eos": np.True_}, {"logit_bias": {256: 100.0}, "ignore_eos": True}),
        ({"seed": None, "max_tokens": None, "logprobs": None, "prompt_logprobs": None, "grammar": None,
          "stop": "\n"}, {"stop": "\n", "max_tokens": 1000}),
    ],
    ids=named,
)  # fmt: skip
def test_what_is_meant_is_honoured(engine, options, plain):
    made, wanted = (engine.generate("ab", **{"max_tokens": 3, **asked}) for asked in (options, plain))
    assert made.tokens == wanted.tokens


def test_as_many_log_probabilities_are_given_as_were_asked_for(engine):
    made = engine.generate(
        "abc", max_tokens=3, logprobs=np.int8(2), prompt_logprobs=np.int64(1), scored_from=np.int64(2)
    )
    assert [len(report.top) for report in made.logprobs] == [2] * len(made.tokens)
    assert [(report.token, len(report.top)) for report in made.prompt_logprobs] == [(ord("c"), 1)]


def test_numpys_numbers_mean_what_pythons_mean(engine):
    plain = {"seed": 5, "temperature": 1.0, "top_k": 20, "max_tokens": 8, "logit_bias": {65: 2.0}}
    numpys = {"seed": np.int64(5), "temperature": np.float64(1), "top_k": np.uint16(20), "max_tokens": np.int8(8),
              "logit_bias": {np.int32(65): np.float16(2)}}  # fmt: skip
    assert engine.generate("ab", **plain).tokens == engine.generate(np.array([97, 98], dtype=np.uint8), **numpys).tokens


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 2.5), ("max_tokens", "3"), ("max_tokens", True), ("max_tokens", 10**5000),
        ("logit_bias", {5.0: 1.0}), ("logit_bias", {"5": 1.0}), ("logit_bias", {5: "1"}), ("logit_bias", {5: math.nan}),
        ("logit_bias", [(5, 1.0)]), ("logit_bias", None), ("logit_bias", {True: 1.0}), ("logit_bias", {2**70: 1.0}),
        ("namespace", None), ("namespace", b"x"), ("namespace", 3), ("priority", "x"), ("priority", 1.5),
        ("priority", None), ("prompt_logprobs", 2.0), ("prompt_logprobs", "2"), ("scored_from", 1.5),
        ("scored_from", None), ("seed", "3"), ("seed", 1.5), ("seed", True), ("grammar", "[a-z]+"),
        ("grammar", {"type": "integer"}), ("grammar", Regex), ("grammar", int), ("temperature", None),
        ("temperature", "1"), ("temperature", math.nan), ("temperature", math.inf), ("temperature", 10**400),
        ("temperature", True), ("top_k", None), ("top_k", 3.0), ("top_p", "0.5"), ("top_p", math.nan), ("min_p", None),
        ("repetition_penalty", -math.inf), ("presence_penalty", math.nan), ("frequency_penalty", []), ("stop", None),
        ("stop", 3), ("stop", b"x"), ("stop", ["x", 3]), ("stop", {"x": 1}), ("stop_token_ids", None),
        ("stop_token_ids", "a"), ("stop_token_ids", [1.0]), ("stop_token_ids", 2**80), ("ignore_eos", 1),
        ("ignore_eos", "no"), ("logprobs", 2.0), ("logprobs", True), ("finish_in_time", None), ("sampling", {}),
        ("sampling", None),
    ],
    ids=named,
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_name(engine, name, value):
    for temperature in ({}, {"temperature": 1.0}):
        with pytest.raises(InvalidRequest) as refused:
            engine.submit("ab", **{**({} if name in ("temperature", "sampling") else temperature), name: value})
        assert refused.value.param == name
    check_alive(engine)


@pytest.mark.parametrize(
    "prompt",
    [None, 5, 1.5, True, b"abc", {}, {1, 2}, {"role": "user"}, [None], [1.5], [True], [1, True], [1, "a"], ["a", 1],
     ["a", None], [[1, 2], [3.5]], [[[1]]], [2**70], [-1], [1, 10**5000], [math.nan], object(), iter([1, 2]), "\ud800",
     np.array([0.5]), np.array([[[1]]]), np.array(["a"]), [{"role": "user", "content": "x"}]],
    ids=named,
)  # fmt: skip
def test_what_is_no_prompt_is_refused(engine, prompt):
    with pytest.raises(InvalidRequest) as refused:
        engine.generate(prompt)
    assert refused.value.param == "prompt"
    check_alive(engine)


def test_prompts_are_lists_of_every_kind(engine):
    one = engine.generate([97, 98], max_tokens=4).tokens
    for same in ((97, 98), range(97, 99), np.array([97, 98]), torch.tensor([97, 98]), "ab"):
        assert engine.generate(same, max_tokens=4).tokens == one
    for both in (["ab", "ab"], [[97, 98], [97, 98]], np.array([[97, 98], [97, 98]]), ("ab", "ab")):
        assert [each.tokens for each in engine.generate(both, max_tokens=4)] == [one, one]
    assert engine.generate([]) == []


def test_other_doors_check_types_too(engine, tiny_loaded):
    other = Engine.of(tiny_loaded, kv_tokens=64)
    refused = {
        "n": [lambda: engine.sample("ab", 0), lambda: engine.sample("ab", "2"), lambda: engine.sample("ab", 1.5)],
        "progress": [lambda: engine.generate("ab", progress="yes")],
        "hold": [lambda: engine.submit("ab", hold=1), lambda: engine.submit("ab", hold=other.hold())],
        "pinned_for": [lambda: engine.hold("long")],
        "grammar": [lambda: engine.prepare("[a-z]"), lambda: engine.prepare(None)],
        "prompt_len": [lambda: engine.room("3")],
        "prompt": [lambda: engine.explain(["a"]), lambda: engine.explain(None), lambda: engine.submit_all([None])],
        "namespace": [lambda: engine.explain([1], namespace=None)],
        "path": [lambda: engine.save_cache(None), lambda: engine.load_cache(3)],
        "max_bytes": [lambda: engine.save_cache("x", max_bytes="1")],
        "model": [lambda: Engine(5)],
        "loaded": [lambda: Engine.of("tiny")],
        "form": [lambda: engine.generate("ab", form=5), lambda: engine.generate("ab", form={"type": "integer"})],
        "prompts": [lambda: engine.submit_all(None), lambda: engine.submit_all("ab"), lambda: engine.submit_all(3)],
        "look": [lambda: engine.with_cache(None)],
    }
    for param, calls in refused.items():
        for call in calls:
            with pytest.raises(InvalidRequest) as error:
                call()
            assert error.value.param == param
    other.close()
    check_alive(engine)


def test_a_grammar_of_ones_own_that_fails_is_told_with_its_cause(engine):
    class Own:
        def grammar(self):
            return 1 / 0

    with pytest.raises(RequestFailed) as failed:
        engine.submit("ab", grammar=Own())
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    check_alive(engine)


def test_samplings_fields_are_the_options_of_the_same_names():
    fields = get_type_hints(Sampling)
    assert set(fields) < set(KINDS)
    for name in fields:
        if name not in ("stop", "stop_token_ids"):
            assert KINDS[name] == fields[name]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_value_of_any_engine_option_is_taken_or_refused_by_name(data):
    name = data.draw(st.sampled_from(sorted(get_type_hints(EngineOptions))))
    value = data.draw(VALUES, label=name)
    made, refused = outcome(lambda: EngineConfig(**{name: value}))
    if refused is None:
        kind = get_type_hints(EngineOptions)[name]
        assert isinstance(getattr(made, name), plain_types(kind))
    else:
        assert refused.param in (name, "max_batch_tokens")


def plain_types(kind):
    """What `isinstance` takes."""
    if get_origin(kind) in (Union, UnionType):
        return tuple(map(plain_types, get_args(kind)))
    return {Literal: str, tuple: tuple}.get(get_origin(kind), kind)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_value_of_any_server_option_is_taken_or_refused_by_name(data):
    name = data.draw(st.sampled_from(sorted(get_type_hints(ServerConfig))))
    value = data.draw(VALUES | NUMBERS, label=name)
    made, refused = outcome(lambda: ServerConfig(**{name: value}))
    assert refused.param == name if made is None else isinstance(made, ServerConfig)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"device": "toaster"}, "device"), ({"dtype": "float33"}, "dtype"), ({"dtype": "nn"}, "dtype"),
        ({"backend": "tpu"}, "backend"), ({"kv_dtype": "float1"}, "kv_dtype"), ({"block_size": 16.0}, "block_size"),
        ({"prefix_cache": 1}, "prefix_cache"), ({"blok_size": 16}, "blok_size"), ({"kv_tokens": "4k"}, "kv_tokens"),
        ({"context_length": 0}, "context_length"), ({"kv_tokens": -5}, "kv_tokens"),
        ({"kv_tokens": 10**15}, "kv_tokens"), ({"kv_tokens": 2**62}, "kv_tokens"), ({"block_size": 2**60}, "kv_tokens"),
    ],
)  # fmt: skip
def test_engines_that_cannot_be_are_refused_by_name(tiny_loaded, monkeypatch, options, param):
    monkeypatch.setattr("stemma.runtime.engine.ranks.load", lambda *_, **__: tiny_loaded)
    with pytest.raises(InvalidRequest) as refused:
        Engine("tiny.gguf", **options)
    assert refused.value.param == param


def test_a_number_stands_for_a_list_of_one(engine):
    assert engine.generate("ab", max_tokens=1, shown_tokens=257, marks_at=1, stop_token_ids=3).finish_reason == "length"
