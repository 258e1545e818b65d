"""The real model through every layer, with the back end that a user of this machine gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from stemma.runtime.engine import Engine, EngineConfig
from stemma.runtime.engine.resources import make_ops
from stemma.runtime.model import LoadedModel, load
from stemma.runtime.model.pull import default_model

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/architecture.md").read_text()
PROMPTS = ["The capital of France is", "Once upon a time", "def fibonacci(n):", TEXT[:1200], TEXT[:1200] + " So"]


@pytest.fixture(scope="module")
def real() -> LoadedModel:
    return load(default_model(), make_ops(EngineConfig()))


@pytest.fixture(scope="module")
def alone(real):
    """Each prompt computed alone, without a cache."""
    with Engine.of(real, kv_tokens=8192, prefix_cache=False) as llm:
        return [llm.generate(prompt, max_tokens=24).tokens for prompt in PROMPTS]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prefix_cache": False},
        {"max_chunk": 7},
        {"max_chunk": 64},
        {"kv_tokens": 640},
        {"block_size": 32},
        {"schedule_policy": "dfs", "max_running": 2},
        {"schedule_policy": "lpm", "kv_tokens": 640},
        {"schedule_policy": "fcfs", "tpot_ms": 0.01},
        {"drafts_from": ("none",)},
    ],
    ids=str,
)
def test_greedy_tokens_are_the_same_batched_cold_warm_chunked_evicted_and_preempted(real, alone, options):
    with Engine.of(real, **{"kv_tokens": 8192, **options}) as llm:
        for _ in range(2):
            assert [item.tokens for item in llm.generate(PROMPTS, max_tokens=24)] == alone
        stats = llm.stats().cache
        assert stats.leased == 0
        assert stats.free + stats.cached == stats.total


def test_two_processes_that_share_a_model_say_what_one_says(alone):
    with Engine(kv_tokens=8192, tensor_parallel=2) as llm:
        for _ in range(2):
            assert [item.tokens for item in llm.generate(PROMPTS, max_tokens=24)] == alone


def test_a_prefix_shared_by_32_prompts_is_computed_once_to_the_token(real):
    prefix = real.tokenizer.encode(TEXT)[:1500]
    prompts = [[*prefix, *real.tokenizer.encode_continuation(f" Question {index}: why?")] for index in range(32)]
    with Engine.of(real, kv_tokens=8192) as llm:
        usages = [item.usage for item in llm.generate(prompts, max_tokens=4)]
    columns = zip(*prompts, strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    assert shared >= 1500
    assert sum(usage.prompt_tokens for usage in usages) == sum(map(len, prompts))
    assert sum(usage.prefilled_tokens for usage in usages) <= shared + sum(len(prompt) - 1500 for prompt in prompts)
    for usage in usages:
        assert usage.cached_tokens + usage.prefilled_tokens == usage.prompt_tokens
        assert usage.decoded_tokens + usage.jumped_tokens == usage.completion_tokens


def test_the_command_line_knows_the_capital_of_france():
    command = [sys.executable, "-m", "stemma", "generate", "The capital of France is", "--max-tokens", "8", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert "Paris" in said["text"]
    usage = said["usage"]
    assert (usage["cached_tokens"], usage["prefilled_tokens"], usage["decoded_tokens"]) == (0, 5, 8)
