"""The same metrics under vLLM's and SGLang's names, for dashboards, alerts and gateways that are made for these."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from stemma.runtime.engine import EngineStats
from stemma.server.generation.service import Service
from stemma.server.status.families import Labels, Reading, counter, counters, gauge, histogram

VLLM_REASONS = ("stop", "length", "abort", "error")


def vllm_metrics(reading: Reading) -> Iterator[Metric]:
    """As vLLM's engine has them."""
    labels = {"model_name": reading.service.model_name}
    metrics = reading.metrics
    yield counter("vllm:prompt_tokens", "Prompt tokens", metrics.usage.prompt_tokens, labels)
    yield counter("vllm:prompt_tokens_cached", "Prompt tokens found", metrics.usage.cached_tokens, labels)
    yield counter("vllm:generation_tokens", "Generated tokens", metrics.usage.completion_tokens, labels)
    ended = {reason: metrics.num_finished.get(reason, 0) for reason in VLLM_REASONS}
    yield counters("vllm:request_success", "Requests that ended", "finished_reason", ended, labels)
    for name, values in (
        ("time_to_first_token_seconds", metrics.ttft),
        ("time_per_output_token_seconds", metrics.tpot),
        ("request_time_per_output_token_seconds", metrics.tpot),
        ("inter_token_latency_seconds", metrics.inter_token),
        ("e2e_request_latency_seconds", metrics.total),
        ("request_queue_time_seconds", metrics.queue),
        ("request_prefill_time_seconds", metrics.prefill),
        ("request_decode_time_seconds", metrics.decode),
        ("request_inference_time_seconds", metrics.inference),
        ("request_prompt_tokens", metrics.prompt_tokens),
        ("request_generation_tokens", metrics.completion_tokens),
        ("request_max_num_generation_tokens", metrics.max_tokens),
        ("request_params_max_tokens", metrics.max_tokens),
        ("iteration_tokens_total", metrics.step_tokens),
    ):
        yield histogram(f"vllm:{name}", name.replace("_", " "), values, labels)
    if reading.engine is not None:
        yield from _vllm_engine(reading.service, reading.engine, labels)


def _vllm_engine(service: Service, stats: EngineStats, labels: Labels) -> Iterator[Metric]:
    cache, config = stats.cache, service.engine.config
    yield gauge("vllm:num_requests_running", "Running", stats.num_running, labels)
    yield gauge("vllm:num_requests_waiting", "Waiting", stats.num_waiting, labels)
    yield gauge("vllm:num_requests_swapped", "None are swapped out", 0, labels)
    for name in ("kv_cache_usage_perc", "gpu_cache_usage_perc"):
        yield gauge(f"vllm:{name}", "Share of leased blocks", cache.leased / cache.total, labels)
    queries = cache.hit_tokens + cache.miss_tokens
    for name in ("prefix_cache", "gpu_prefix_cache"):
        yield counter(f"vllm:{name}_queries", "Tokens looked up", queries, labels)
        yield counter(f"vllm:{name}_hits", "Tokens found", cache.hit_tokens, labels)
    yield counter("vllm:num_preemptions", "Preemptions", stats.metrics.num_preempted, labels)
    said = {
        "block_size": str(config.block_size), "cache_dtype": config.kv_dtype, "num_gpu_blocks": str(cache.total),
        "enable_prefix_caching": str(config.prefix_cache), "engine": "0",
    }  # fmt: skip
    yield gauge("vllm:cache_config_info", "How the cache is made", 1, said)
    if service.loras:
        loras = {"max_lora": str(len(service.loras)), "running_lora_adapters": "", "waiting_lora_adapters": ""}
        yield gauge("vllm:lora_requests_info", "Adapters", service.started, loras)


def sglang_metrics(reading: Reading) -> Iterator[Metric]:
    """As SGLang's tokenizer and scheduler have them."""
    labels = {"model_name": reading.service.model_name}
    metrics, usage = reading.metrics, reading.metrics.usage
    yield counter("sglang:prompt_tokens", "Prompt tokens", usage.prompt_tokens, labels)
    yield counter("sglang:generation_tokens", "Generated tokens", usage.completion_tokens, labels)
    yield counter("sglang:cached_tokens", "Prompt tokens found", usage.cached_tokens, labels)
    yield counter("sglang:num_requests", "Requests that ended", sum(metrics.num_finished.values()), labels)
    yield counter("sglang:num_aborted_requests", "Requests ended early", metrics.num_finished.get("abort", 0), labels)
    for name, values in (
        ("time_to_first_token_seconds", metrics.ttft),
        ("time_per_output_token_seconds", metrics.tpot),
        ("inter_token_latency_seconds", metrics.inter_token),
        ("e2e_request_latency_seconds", metrics.total),
        ("queue_time_seconds", metrics.queue),
        ("prompt_tokens_histogram", metrics.prompt_tokens),
        ("generation_tokens_histogram", metrics.completion_tokens),
    ):
        yield histogram(f"sglang:{name}", name.replace("_", " "), values, labels)
    if reading.engine is not None:
        yield from _sglang_engine(reading, reading.engine, labels)


def _sglang_engine(reading: Reading, stats: EngineStats, labels: Labels) -> Iterator[Metric]:
    service, tokens_per_second = reading.service, reading.tokens_per_second
    cache, block_size = stats.cache, service.engine.config.block_size
    yield gauge("sglang:num_running_reqs", "Running", stats.num_running, labels)
    yield gauge("sglang:num_queue_reqs", "Waiting", stats.num_waiting, labels)
    yield gauge("sglang:num_grammar_queue_reqs", "None wait for a grammar in the engine", 0, labels)
    yield gauge("sglang:num_used_tokens", "Tokens that are leased", cache.leased * block_size, labels)
    yield gauge("sglang:token_usage", "Share of leased tokens", cache.leased / cache.total, labels)
    yield gauge("sglang:max_total_num_tokens", "Tokens of the pool", cache.total * block_size, labels)
    yield gauge("sglang:cache_hit_rate", "Share of prompt tokens found", cache.hit_rate, labels)
    yield gauge("sglang:gen_throughput", "Tokens a second since the reading before", tokens_per_second, labels)
    yield counter("sglang:num_retracted_requests", "Preemptions", stats.metrics.num_preempted, labels)
    share = stats.num_running / service.engine.config.max_running
    yield gauge("sglang:utilization", "Running of those that may run", share, labels)
