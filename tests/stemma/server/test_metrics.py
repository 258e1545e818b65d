"""GET /metrics: under whose names, in which format, and to whom what is told."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families

from stemma.runtime.engine import Engine
from stemma.runtime.model import LoadedModel
from stemma.server import ApiKey, ServerConfig

KEYS = (ApiKey("alice", "ka"), ApiKey("bob", "kb"), ApiKey("root", "kr", is_admin=True))
VLLM = """num_requests_running num_requests_waiting kv_cache_usage_perc
prefix_cache_queries_total prefix_cache_hits_total
num_preemptions_total prompt_tokens_total generation_tokens_total request_success_total request_prompt_tokens_bucket
request_generation_tokens_bucket request_max_num_generation_tokens_sum request_params_max_tokens_count
time_to_first_token_seconds_bucket time_per_output_token_seconds_bucket request_time_per_output_token_seconds_bucket
inter_token_latency_seconds_bucket e2e_request_latency_seconds_bucket request_queue_time_seconds_sum
request_prefill_time_seconds_sum request_decode_time_seconds_sum request_inference_time_seconds_sum
iteration_tokens_total_bucket cache_config_info"""
SGLANG = """num_running_reqs num_queue_reqs num_used_tokens token_usage cache_hit_rate gen_throughput
prompt_tokens_total
generation_tokens_total cached_tokens_total num_requests_total time_to_first_token_seconds_bucket
inter_token_latency_seconds_bucket e2e_request_latency_seconds_bucket max_total_num_tokens utilization"""


def samples_of(text: str, parse: Any = text_string_to_metric_families) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    found = [sample for family in parse(text) for sample in family.samples]
    return {
        (each.name, *(f"{name}={value}" for name, value in sorted(each.labels.items()))): each.value for each in found
    }


async def read(client: Any, key: str | None = None) -> dict[tuple[str, ...], float]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    response = await client.http.get("/metrics", headers=headers)
    assert response.status_code == 200, response.text
    return samples_of(response.text)


@pytest.mark.parametrize(
    ("option", "prefix", "names"), [("vllm_metric_names", "vllm:", VLLM), ("sglang_metric_names", "sglang:", SGLANG)]
)
async def test_the_names_of_other_servers(
    engine: Engine, serve_with: Any, option: str, prefix: str, names: str
) -> None:
    async with serve_with(engine, ServerConfig(model_name="tiny", **{option: True})) as client:
        await client.post("/v1/completions", prompt="count me", max_tokens=7, ignore_eos=True)
        found = {name for name, *_ in await read(client)}
    assert {f"{prefix}{name}" for name in names.split()} <= found
    other = {"vllm:", "sglang:"} - {prefix}
    assert not any(name.startswith(tuple(other)) for name in found)


async def test_what_keeps_sequences_waiting_is_told(tiny_loaded: LoadedModel, serve_with: Any) -> None:
    for options, target in (({}, 0.0), ({"tpot_ms": 40.0}, 0.04)):
        with Engine.of(tiny_loaded, kv_tokens=1024, max_running=3, **options) as engine:
            async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
                found = await read(client)
        assert (found["stemma_most_running",], found["stemma_tpot_target_seconds",]) == (3, target)


async def test_drafts_are_counted_by_source(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
        before = await read(client)
        for _ in range(3):
            await client.post("/v1/completions", prompt="say it again", max_tokens=30, ignore_eos=True, temperature=0)
        after = await read(client)
    counted = engine.stats().metrics.drafts["tree"]
    proposed, accepted = (
        ("stemma_drafts_proposed_total", "source=tree"),
        ("stemma_drafts_accepted_total", "source=tree"),
    )
    assert (after[proposed], after[accepted]) == (counted.proposed, counted.accepted)
    assert after[accepted] > before[accepted]


async def test_a_requests_numbers_are_counted_once(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(model_name="tiny", vllm_metric_names=True)) as client:
        before = await read(client)
        await client.post("/v1/completions", prompt="count all of me", max_tokens=9, ignore_eos=True, n=2, seed=1)
        after = await read(client)
    label = "model_name=tiny"
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    for name in (
        "request_queue_time_seconds_count",
        "request_decode_time_seconds_count",
        "request_prompt_tokens_count",
    ):
        assert grown[f"vllm:{name}", label] == 2
    assert grown["vllm:request_generation_tokens_sum", label] == 18
    assert grown["vllm:request_max_num_generation_tokens_sum", label] == 18
    assert grown["vllm:inter_token_latency_seconds_count", label] == 16
    assert grown["vllm:request_success_total", "finished_reason=length", label] == 2
    parts = [grown[f"vllm:request_{name}_time_seconds_sum", label] for name in ("queue", "prefill", "decode")]
    assert sum(parts) == pytest.approx(grown["vllm:e2e_request_latency_seconds_sum", label])
    assert grown["vllm:inter_token_latency_seconds_sum", label] <= parts[2] + 1e-6
    buckets = [value for key, value in after.items() if key[0] == "vllm:request_prompt_tokens_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == after["vllm:request_prompt_tokens_count", label]


async def test_openmetrics_if_it_is_asked_for(client: Any) -> None:
    plain = await client.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    accept = "application/openmetrics-text; version=1.0.0; charset=utf-8, text/plain;q=0.5"
    asked = await client.http.get("/metrics", headers={"accept": accept})
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")
    names = [
        {name for name, *_ in found}
        for found in (samples_of(plain.text), samples_of(asked.text, open_metrics_families))
    ]
    assert names[0] <= names[1]


async def test_a_key_is_needed_and_a_tenant_is_told_of_itself(engine: Engine, serve_with: Any) -> None:
    config = ServerConfig(api_keys=KEYS, vllm_metric_names=True, sglang_metric_names=True)
    async with serve_with(engine, config) as client:
        assert (await client.http.get("/metrics")).status_code == 401
        before = await read(client, "kb")
        for prompt in ("alice asks", "alice asks again"):
            await client.post("/v1/completions", key="ka", prompt=prompt, max_tokens=5, ignore_eos=True)
        assert await read(client, "kb") == before
        assert not any("kv_blocks" in name or "running" in name for name, *_ in before)
        alice, everything = await read(client, "ka"), await read(client, "kr")
        assert alice["stemma_completion_tokens_total",] == 10
        assert everything["stemma_tenant_tokens_total", "kind=completion", "tenant=alice"] == 10
        assert "stemma_kv_blocks" in {name for name, *_ in everything}
        (load,) = (await client.get("/v1/loads", key="kb"))["loads"]
        assert load["num_used_tokens"] == load["cache_hit_rate"] == 0
        await client.post("/v1/completions", key="kb", prompt="bob", max_tokens=5, ignore_eos=True)
        assert (await read(client, "kb"))["stemma_completion_tokens_total",] == 5


async def test_one_key_alone_sees_all_and_so_does_everybody_where_the_operator_says_so(
    engine: Engine, serve_with: Any
) -> None:
    async with serve_with(engine, ServerConfig(api_keys=KEYS[:1])) as client:
        assert (await client.http.get("/metrics")).status_code == 401
        assert "stemma_sequences_running" in {name for name, *_ in await read(client, "ka")}
    async with serve_with(engine, ServerConfig(api_keys=KEYS, open_metrics=True)) as client:
        assert "stemma_sequences_running" in {name for name, *_ in await read(client)}
