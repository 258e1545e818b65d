"""The sampling that a model's files recommend counts where a request says nothing, never where it says something."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stemma.runtime.core.sampling import Sampling
from stemma.runtime.engine import Engine
from stemma.runtime.engine.options import RequestMaker
from stemma.runtime.engine.recommended import recommended
from stemma.runtime.engine.sharing import SharedTexts
from stemma.runtime.errors import ModelFileError
from stemma.runtime.model import GenerationDefaults

QWEN = GenerationDefaults((256,), temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.05, do_sample=True)


def sampling_of(loaded, defaults, **options):
    nothing = SharedTexts(loaded, pytest.fail, None)
    return RequestMaker(loaded, 512, 512, recommended(defaults, "auto"), nothing).make([1, 2], options).sampling


def test_what_is_recommended_counts_where_a_request_says_nothing(tiny_loaded):
    assert sampling_of(tiny_loaded, QWEN) == Sampling(0.7, 20, 0.8, repetition_penalty=1.05)


def test_each_value_of_a_request_goes_before_the_recommended_one(tiny_loaded):
    found = sampling_of(tiny_loaded, QWEN, temperature=0, top_k=0, stop=["x"])
    assert found == Sampling(0, 0, 0.8, repetition_penalty=1.05, stop=("x",))


def test_a_whole_sampling_leaves_nothing_open(tiny_loaded):
    assert sampling_of(tiny_loaded, QWEN, sampling=Sampling(seed=3)) == Sampling(seed=3)


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        (GenerationDefaults((256,)), {}),
        (GenerationDefaults((256,), do_sample=False, temperature=0.6, top_p=0.9), {"temperature": 0, "top_p": 0.9}),
        (GenerationDefaults((256,), do_sample=True), {}),
        (GenerationDefaults((256,), top_k=-1, min_p=0.05), {"top_k": 0, "min_p": 0.05}),
    ],
)
def test_what_becomes_of_recommendations(defaults, expected):
    assert recommended(defaults, "auto") == expected


def test_values_that_cannot_be_used_are_refused_by_name():
    with pytest.raises(ModelFileError, match=r"top_p must be above 0.*generation_config"):
        recommended(GenerationDefaults((256,), top_p=1.5), "auto")


def test_an_engine_takes_them_unless_it_is_told_not_to(tiny_loaded):
    loaded = replace(tiny_loaded, generation=replace(QWEN, top_k=None, top_p=None, repetition_penalty=8.0))
    with (
        Engine.of(loaded, kv_tokens=512) as engine,
        Engine.of(loaded, kv_tokens=512, generation_config="none") as plain,
    ):
        asked = {"max_tokens": 24, "seed": 1, "ignore_eos": True}
        told = {"temperature": 0.7, "repetition_penalty": 8.0}
        assert engine.generate([5, 6], **asked).tokens == plain.generate([5, 6], **asked, **told).tokens
        greedy = plain.generate([5, 6], **asked).tokens
        assert greedy == plain.generate([5, 6], **asked, temperature=0).tokens
        assert greedy == engine.generate([5, 6], **asked, temperature=0, repetition_penalty=1).tokens
        assert greedy != engine.generate([5, 6], **asked).tokens
