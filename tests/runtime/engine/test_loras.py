"""Requests with adapters of their own in one engine: rows of a batch do not meet, in numbers or in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine, RequestOptions
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import LoadedModel
from stemma.runtime.model.files.adapters.merge import merged
from stemma.runtime.model.files.adapters.named import lora_of
from stemma.runtime.model.load import assemble
from tests.runtime.model.lora_making import adapter_of, tiny_checkpoint, with_adapters

PROMPTS = ["the same beginning, then one end", "the same beginning, then another", "something else", "x"]
ADAPTERS = (None, "one", "two")
EACH = [(prompt, lora) for lora in ADAPTERS for prompt in PROMPTS]


@pytest.fixture(scope="module", params=["reference", "llama", "gemma2", "starcoder2"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """On the reference in float64, and families that use products differently on this machine's back end."""
    if request.param == "reference":
        return with_adapters("llama", ReferenceOps(torch.device("cpu"), torch.float64))
    return with_adapters(request.param, select_ops())


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[Engine]:
    with Engine.of(loaded, kv_tokens=4096) as made:
        yield made
        made.with_cache(lambda cache: cache.check())
        assert made.stats().cache.leased == 0


def said(engine: Engine, each: list[tuple[str, str | None]]) -> list[Any]:
    """Tokens with their log-probabilities, bit for bit, of requests that run together."""
    generations = [engine.submit(prompt, lora=lora, max_tokens=6, logprobs=1) for prompt, lora in each]
    completions = [generation.result() for generation in generations]
    return [(each.tokens, [score.logprob for score in each.logprobs]) for each in completions]


@pytest.fixture(scope="module")
def alone(loaded: LoadedModel) -> list[Any]:
    with Engine.of(loaded, kv_tokens=4096, prefix_cache=False) as engine:
        return [said(engine, [one])[0] for one in EACH]


def test_nothing_depends_on_company_chunks_or_the_cache(loaded: LoadedModel, alone: list[Any]) -> None:
    is_exact = loaded.model.ops.name == "cpu"

    def check(found: list[Any]) -> None:
        assert [tokens for tokens, _ in found] == [tokens for tokens, _ in alone]
        for (_, ours), (_, theirs) in zip(found, alone, strict=True):
            assert ours == (theirs if is_exact else pytest.approx(theirs, abs=1e-9))

    with Engine.of(loaded, kv_tokens=4096, max_chunk=5, max_batch_tokens=24, max_running=8, block_size=4) as engine:
        check(said(engine, EACH))
    with Engine.of(loaded, kv_tokens=4096) as engine:
        check(said(engine, EACH))
        check(said(engine, EACH))
    assert len({tokens for tokens, _ in alone}) > len(PROMPTS)


def test_without_an_adapter_it_is_the_model_alone(loaded: LoadedModel, alone: list[Any]) -> None:
    plain = assemble(tiny_checkpoint(loaded.config.family), loaded.model.ops)
    with Engine.of(plain, kv_tokens=4096) as engine:
        assert said(engine, [one for one in EACH if one[1] is None]) == alone[: len(PROMPTS)]


def test_the_same_tokens_are_not_found_under_another_adapter(engine: Engine) -> None:
    prompt = PROMPTS[0]
    for lora in ADAPTERS:
        first = engine.generate(prompt, max_tokens=1, lora=lora).usage
        again = engine.generate(prompt, max_tokens=1, lora=lora).usage
        assert (first.cached_tokens, again.prefilled_tokens) == (0, 1)
        tokens = engine.tokenizer.encode_prompt(prompt)
        assert engine.explain(tokens, lora=lora).hit_len == len(tokens)
    assert len({root.namespace for root in engine.tree()}) == len(ADAPTERS)


def test_a_saved_cache_is_of_an_adapters_numbers_not_of_its_name(tmp_path: Path) -> None:
    found, ops, hits = tiny_checkpoint("llama"), ReferenceOps(torch.device("cpu")), []
    for seed in (1, 1, 2):
        lora = lora_of(found, "a", adapter_of(found, seed))
        with Engine.of(assemble(found, ops, loras={"a": lora}), kv_tokens=512) as engine:
            if hits:
                engine.load_cache(tmp_path / "cache")
            hits.append(engine.generate(PROMPTS[0], max_tokens=1, lora="a").usage.cached_tokens > 0)
            if len(hits) == 1:
                engine.save_cache(tmp_path / "cache")
    assert hits == [False, True, False]


def test_embeddings_and_scored_prompts(engine: Engine, loaded: LoadedModel) -> None:
    one = merged(tiny_checkpoint(loaded.config.family), adapter_of(tiny_checkpoint(loaded.config.family), 1))
    with Engine.of(assemble(one, loaded.model.ops), kv_tokens=4096) as other:
        for pooling in ("last", "mean"):
            want = other.embed(PROMPTS[0], pooling=pooling).vector
            assert engine.embed(PROMPTS[0], pooling=pooling, lora="one").vector == pytest.approx(want, abs=1e-3)
        options: RequestOptions = {"max_tokens": 0, "prompt_logprobs": 0}
        scores = [each.logprob for each in other.generate(PROMPTS[0], **options).prompt_logprobs]
        found = [each.logprob for each in engine.generate(PROMPTS[0], lora="one", **options).prompt_logprobs]
        assert found == pytest.approx(scores, abs=1e-3)


def test_what_is_not_there_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match=r"no adapter 'three'; there are \['one', 'two'\]") as refused:
        engine.generate("x", lora="three")
    assert refused.value.param == "lora"
    for namespace in ("//lora:one@0", "a//lora:"):
        with pytest.raises(InvalidRequest, match="a namespace has no '//lora:'"):
            engine.generate("x", namespace=namespace)
    with pytest.raises(InvalidRequest, match="lora must be"):
        engine.generate("x", lora=1)  # type: ignore[arg-type]


def test_a_text_is_shared_for_each_adapter_by_itself(engine: Engine) -> None:
    text = engine.share("the same beginning", lora="one")
    for lora, namespace, num_found in ((None, "a", 0), ("two", "a", 0), ("one", "a", 18), ("one", "b", 18)):
        usage = engine.generate(PROMPTS[0], max_tokens=1, lora=lora, namespace=namespace).usage
        assert usage.cached_tokens == min(num_found, text.num_tokens)
    text.release()
