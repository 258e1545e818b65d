"""Embeddings and scores of a running engine, against the plain run of the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stemma.runtime.core.pooling import Pooling
from stemma.runtime.engine.embedding import ANSWERS, Judge, cosine
from stemma.runtime.errors import InvalidRequest, PromptTooLong
from tests.runtime.model.running import all_hidden, all_logits

TEXTS = ["the first text", "the first text goes on", "another", "the first text goes on and on " * 20]


def states(loaded, text):
    tokens = loaded.tokenizer.encode_prompt(text)
    rows = loaded.model.hidden_states(all_hidden(loaded.model, tokens), np.arange(len(tokens), dtype=np.int32))
    return torch.as_tensor(rows).double()  # arrays on the CPU


@pytest.mark.parametrize("pooling", ["last", "mean", None])
def test_embeddings_are_the_networks(loaded, make, pooling):
    engine = make(max_chunk=64)
    embeddings = engine.embed(TEXTS, pooling=pooling)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        expected = states(loaded, text)
        expected = expected.mean(0) if pooling == "mean" else expected[-1]
        # int16 KV, and products whose rounding depends on the machine, but not on the batch
        torch.testing.assert_close(
            torch.from_numpy(embedding.vector).double(), expected / expected.norm(), rtol=0, atol=2e-3
        )
        assert abs(np.linalg.norm(embedding.vector) - 1) < 1e-6
        assert embedding.usage.completion_tokens == 0
    (alone,) = make().embed([TEXTS[1]], pooling=pooling)
    assert np.array_equal(alone.vector, embeddings[1].vector)


def test_a_prefix_is_computed_once(make):
    engine = make()
    engine.embed("a long beginning that many texts share: " + "x" * 100)
    again = engine.embed("a long beginning that many texts share: " + "x" * 50 + "another end")
    assert again.usage.cached_tokens >= 64
    assert engine.embed(TEXTS[3], pooling="mean").usage.cached_tokens == 0
    assert engine.generate(TEXTS[3], max_tokens=1).usage.cached_tokens > 0


def test_dimensions_are_the_first_and_scaled_again(make):
    engine = make()
    whole = engine.embed("text", normalize=False).vector
    cut = engine.embed("text", dimensions=5).vector
    np.testing.assert_allclose(cut, whole[:5] / np.linalg.norm(whole[:5]), rtol=1e-6)
    assert abs(np.linalg.norm(whole) - 1) > 0.1


def test_token_ids_are_embedded_as_they_are(make):
    engine = make()
    ids = engine.tokenizer.encode_prompt("some text")
    assert np.array_equal(engine.embed(ids).vector, engine.embed("some text").vector)
    assert len(engine.embed([ids, ids])) == 2


def test_scores_are_how_likely_yes_is(loaded, make):
    engine, judge = make(), Judge(loaded)
    documents = ["a document", "another document"]
    scores = engine.score("a query", documents, instruction="find it")
    for document, score in zip(documents, scores, strict=True):
        tokens = judge.tokens("a query", document, "find it")
        logits = torch.as_tensor(all_logits(loaded.model, tokens))[-1].double()
        yes, no = (loaded.tokenizer.encode_continuation(answer)[0] for answer in ANSWERS)
        expected = torch.softmax(logits[[yes, no]], -1)[0]
        assert abs(score.value - float(expected)) < 5e-3
    assert scores[1].usage.cached_tokens > 100
    assert scores[0].value != scores[1].value


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"pooling": "first"}, "pooling"), ({"dimensions": 0}, "dimensions"), ({"dimensions": 65}, "dimensions"),
        ({"dimensions": 1.5}, "dimensions"), ({"prompt_name": "query"}, "prompt_name"), ({"size": 3}, "size"),
        ({"normalize": "yes"}, "normalize"), ({"namespace": 3}, "namespace"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make, options, param):
    with pytest.raises(InvalidRequest) as refused:
        make().embed("text", **options)
    assert refused.value.param == param


@pytest.mark.parametrize("options", [{"max_tokens": 3}, {"prompt_logprobs": 0, "pooling": Pooling("tokens", (5,))}])
def test_a_reading_has_no_completion(make, options):
    options = {"pooling": Pooling("last"), **options}
    if options.get("prompt_logprobs") == 0:
        options["prompt_logprobs"] = 1
    with pytest.raises(InvalidRequest, match="leave one out"):
        make().submit("text", **options)


def test_tokens_are_the_models(make):
    with pytest.raises(InvalidRequest, match="not among"):
        make().submit("text", pooling=Pooling("tokens", (9999,)))
    with pytest.raises(InvalidRequest, match="needs tokens"):
        make().submit("text", pooling=Pooling("tokens"))


def test_a_text_that_is_too_long_is_refused(make):
    with pytest.raises(PromptTooLong):
        make().embed("x" * 5000)


def test_no_length_has_no_angle():
    assert cosine(np.zeros(3, np.float32), np.ones(3, np.float32)) == 0.0
