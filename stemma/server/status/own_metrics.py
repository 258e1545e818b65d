"""Metrics under our own names: requests, tokens and where they came from, times, the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from stemma.radix import CacheStats, MarkStats
from stemma.runtime.core.config import SettledConfig
from stemma.runtime.engine import EngineStats, Metrics
from stemma.server.generation.service import Service
from stemma.server.status.families import Reading, counter, counters, gauge, histogram

KINDS = ("prompt", "completion", "cached", "replayed", "prefilled", "decoded", "jumped", "recomputed")


def own_metrics(reading: Reading) -> Iterator[Metric]:
    """All that this caller may be told."""
    yield from _requests(reading)
    yield from _tokens(reading.metrics)
    if reading.engine is not None:
        yield from _server(reading.service)
        yield from _limits(reading.service.engine.config)
        yield from _engine(reading.engine, reading.service.engine.config.block_size)
        yield from _tiers(reading.engine)
        yield from _time(reading.engine.metrics)
        yield from _model(reading.service)
        yield from _tenants(reading.service)


def _requests(reading: Reading) -> Iterator[Metric]:
    counts = reading.service.counts
    told = counts.answered if reading.tenant is None else counts.answered_to.get(reading.tenant, Counter())
    answered = CounterMetricFamily("stemma_http_requests", "Requests answered", labels=["path", "status"])
    for (path, status), count in told.items():
        answered.add_metric([path, str(status)], count)
    yield answered


def _tokens(metrics: Metrics) -> Iterator[Metric]:
    for name in KINDS:
        count = getattr(metrics.usage, f"{name}_tokens")
        yield counter(f"stemma_{name}_tokens", f"Tokens of finished requests: {name}", count)
    yield counters("stemma_finished_requests", "Requests that ended", "reason", metrics.num_finished)
    for name, text, values in (
        ("ttft", "Submission to first token", metrics.ttft),
        ("tpot", "Mean time of a further token", metrics.tpot),
        ("request", "Submission to end", metrics.total),
        ("queue", "Submission to first step", metrics.queue),
        ("prefill", "First step to first token", metrics.prefill),
        ("decode", "First token to end", metrics.decode),
    ):
        yield histogram(f"stemma_{name}_seconds", text, values)
    yield histogram("stemma_request_prompt_tokens", "Prompt tokens of a request", metrics.prompt_tokens)
    yield histogram("stemma_request_completion_tokens", "Completion tokens of a request", metrics.completion_tokens)


def _server(service: Service) -> Iterator[Metric]:
    yield counter("stemma_http_disconnects", "Clients that left early", service.counts.num_gone)
    full = "Requests refused because the server or a key was full"
    yield counter("stemma_refused_requests", full, service.limiter.num_refused)
    yield gauge("stemma_http_requests_open", "Requests under way", service.counts.num_open)
    yield gauge("stemma_remembered_turn_tokens", "Tokens of remembered turns", service.turns.num_tokens)


def _limits(config: SettledConfig) -> Iterator[Metric]:
    """What keeps sequences waiting, by the engine's options."""
    yield gauge("stemma_most_running", "Sequences that may run side by side", config.max_running)
    target = 0.0 if config.tpot_ms is None else config.tpot_ms / 1000
    yield gauge("stemma_tpot_target_seconds", "What a further token may take; 0 without a target", target)


def _engine(stats: EngineStats, block_size: int) -> Iterator[Metric]:
    yield gauge("stemma_sequences_running", "Sequences that hold KV", stats.num_running)
    yield gauge("stemma_sequences_waiting", "Sequences in the queue", stats.num_waiting)
    yield from _cache(stats.cache, block_size)
    yield counter("stemma_steps", "Batches computed", stats.metrics.num_steps)
    yield counter("stemma_step_tokens", "Tokens of all batches", stats.metrics.num_step_tokens)
    yield counter("stemma_preemptions", "Sequences that had to make room", stats.metrics.num_preempted)
    drafts = stats.metrics.drafts.items()
    proposed, accepted = ({name: getattr(each, what) for name, each in drafts} for what in ("proposed", "accepted"))
    yield counters("stemma_drafts_proposed", "Guessed tokens that were computed", "source", proposed)
    yield counters("stemma_drafts_accepted", "Of these, those that were right", "source", accepted)
    yield histogram("stemma_inter_token_seconds", "Between steps that gave more tokens", stats.metrics.inter_token)


def _time(metrics: Metrics) -> Iterator[Metric]:
    """Where the engine's time goes, and what its steps did: what `stemma doctor` reads."""
    phases = metrics.phases._asdict()
    yield counters("stemma_phase_seconds", "Time of the engine's loop by what it was for", "phase", phases)
    for name, text in (
        ("steps", "Batches computed"),
        ("seconds", "Time of the model"),
        ("tokens", "Tokens computed"),
        ("seen", "Positions that they saw, all together"),
    ):
        values = {str(kind): float(getattr(work, name)) for kind, work in metrics.steps_of.items()}
        yield counters(f"stemma_kind_{name}", f"{text}, by kind of step", "kind", values)


def _model(service: Service) -> Iterator[Metric]:
    """Sizes, which change no more: they make rates of times."""
    engine, work = service.engine, service.engine.loaded.work
    labels = {"model": service.model_name, "storage": engine.loaded.stored.type}
    yield gauge("stemma_model_bytes", "Weights as they are stored", work.weight_bytes, labels)
    yield gauge("stemma_model_row_bytes", "Weights that a step of one row reads", work.bytes_of_rows(1))
    yield gauge("stemma_model_row_operations", "Operations of one row without attention", work.row_operations)
    seen = sum(layers.operations for layers in work.attended)
    yield gauge("stemma_model_seen_operations", "Operations of one row for each position that it sees", seen)
    yield gauge("stemma_kv_token_bytes", "KV of a token in layers that see everything", engine.kv_token_bytes)


def _cache(cache: CacheStats, block_size: int) -> Iterator[Metric]:
    blocks = GaugeMetricFamily("stemma_kv_blocks", "KV blocks by state", labels=["state"])
    for state in ("free", "leased", "cached"):
        blocks.add_metric([state], getattr(cache, state))
    yield blocks
    yield gauge("stemma_kv_block_size_tokens", "Tokens of a KV block", block_size)
    yield gauge("stemma_pinned_blocks", "Blocks that pins and shared prompts keep", cache.pinned)
    yield gauge("stemma_published_blocks", "Blocks in the tree, held or not", cache.published)
    yield gauge("stemma_cache_fragmentation_ratio", "Room of the tree's blocks without a token", cache.fragmentation)
    yield gauge("stemma_cache_oldest_age_seconds", "Since the last use of what waits longest", cache.oldest_age or 0.0)
    yield counter("stemma_cache_lookups", "Prompts looked up", cache.requests)
    yield counter("stemma_cache_hit_tokens", "Prompt tokens found in the cache", cache.hit_tokens)
    yield counter("stemma_cache_miss_tokens", "Prompt tokens not found", cache.miss_tokens)
    yield counter("stemma_evicted_blocks", "Blocks evicted", cache.evicted_blocks)
    if cache.marks is not None:
        yield from _marks(cache.marks)


def _tiers(stats: EngineStats) -> Iterator[Metric]:
    """Only where there are tiers beneath the cache."""
    if not stats.tiers:
        return
    yield counter("stemma_tier_hit_tokens", "Tokens that came back from tiers into the cache", stats.num_filled)
    yield counter("stemma_tier_left_out_blocks", "Blocks that the way into tiers had no room for", stats.num_left_out)
    for name, text in (
        ("hits", "Blocks read"),
        ("missed", "Blocks asked for that were not there"),
        ("damaged", "Blocks that were there, but not what was put there"),
        ("stored", "Blocks written"),
        ("failures", "Times that a tier could not be read or written"),
        ("read_bytes", "Bytes read"),
        ("read_seconds", "Time of reads"),
        ("written_bytes", "Bytes written"),
    ):
        values = {tier.name: float(getattr(tier, name)) for tier in stats.tiers}
        yield counters(f"stemma_tier_{name}", text, "tier", values)
    for name, text in (("is_up", "Whether a tier is asked now"), ("held_bytes", "What a tier keeps")):
        family = GaugeMetricFamily(f"stemma_tier_{name}", text, labels=["tier"])
        for tier in stats.tiers:
            if (value := getattr(tier, name)) is not None:
                family.add_metric([tier.name], value)
        yield family


def _marks(marks: MarkStats) -> Iterator[Metric]:
    """Only of models with windows or states."""
    for name, text, kind, total in (
        ("stemma_state_slots", "Slots by state", "slots", marks.slots),
        ("stemma_window_blocks", "KV blocks of layers with a window by state", "window_blocks", marks.window_blocks),
    ):
        family = GaugeMetricFamily(name, text, labels=["state"])
        for state in ("free", "leased", "cached"):
            family.add_metric([state], getattr(marks, f"{state}_{kind}"))
        if total:
            yield family
    yield gauge("stemma_marks", "Places in the tree where one can go on", marks.num_marks)
    yield counter("stemma_evicted_marks", "Marks evicted for want of room", marks.evicted)
    yield counter("stemma_refused_marks", "Marks wanted that found no room", marks.refused)


def _tenants(service: Service) -> Iterator[Metric]:
    """Only where there are keys: their names are the labels, so there are never more."""
    if not service.config.api_keys:
        return
    family = CounterMetricFamily("stemma_tenant_tokens", "Tokens by key and kind", labels=["tenant", "kind"])
    for tenant, metrics in service.counts.of_tenants.items():
        for kind in KINDS:
            family.add_metric([tenant, kind], getattr(metrics.usage, f"{kind}_tokens"))
    yield family
