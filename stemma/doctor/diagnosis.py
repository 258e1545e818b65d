"""The questions in their order: prefill or decode, bandwidth or compute, what the KV does, who waits. Reckons only."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from stemma.doctor.reading import Reading
from stemma.runtime.planning import Rates

MOST = 0.5
LITTLE = 0.05


class Figure(NamedTuple):
    """name: of what. value, unit: such as 12.5 and GB/s; a share is a number from 0 to 1 with the unit "share"."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Answer:
    """To one question. verdict: in a few words. changes: what would help, the most promising first."""

    question: str
    verdict: str
    figures: list[Figure] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is beyond the last bucket of a histogram is null."""
        values = [figure.value if math.isfinite(figure.value) else None for figure in self.figures]
        figures = [figure._asdict() | {"value": value} for figure, value in zip(self.figures, values, strict=True)]
        return asdict(self) | {"figures": figures}


def diagnose(reading: Reading, rates: Rates | None) -> list[Answer]:
    """All answers. rates: what the server's machine can do, if that is known."""
    if not reading.value("stemma_steps_total"):
        return [Answer("What does it do?", "nothing was computed yet", changes=["send it requests, then ask again"])]
    return [_time(reading), _bound(reading, rates), _memory(reading), _waiting(reading)]


def _time(reading: Reading) -> Answer:
    seconds = reading.by("stemma_kind_seconds_total", "kind")
    phases = reading.by("stemma_phase_seconds_total", "phase")
    whole, model = sum(phases.values()) or 1e-12, sum(seconds.values()) or 1e-12
    shares = {kind: taken / model for kind, taken in seconds.items()}
    host = {phase: taken / whole for phase, taken in phases.items() if phase != "forward"}
    figures = [
        Figure(f"the model's time in {_KINDS.get(kind, kind)}", share, "share") for kind, share in shares.items()
    ]
    figures += [Figure(f"the loop's time in {phase}", share, "share") for phase, share in host.items()]
    longest = max(shares, key=lambda kind: shares[kind], default="neither")
    verdict = {
        "prefill": "prefill: computing prompts", "mixed": "mixed: prompts beside running streams",
        "decode": "decode: further tokens",
    }.get(longest, longest)  # fmt: skip
    changes = []
    if shares.get("prefill", 0) + shares.get("mixed", 0) > MOST and _hit_rate(reading) < MOST:
        changes.append(
            "prompts are mostly new: put first what they share, byte for byte (`stemma cache explain` helps)"
        )
    if host.get("masks", 0) > 2 * LITTLE:
        changes.append(
            "masks of grammars take a lot: simplify the schemas (`stemma schema lint`), reuse them word for word"
        )
    if host.get("jumps", 0) > 2 * LITTLE:
        changes.append(
            "finding what grammars force takes a lot: simplify the schemas (`stemma schema lint`), or --no-jump-forward"
        )
    if host.get("drafts", 0) > 2 * LITTLE:
        changes.append("guessing takes a lot: leave sources out (--drafts-from), or drafts out of requests")
    if host.get("text", 0) + host.get("schedule", 0) + host.get("commit", 0) > 0.25:
        changes.append(
            "the host is slow beside the model: fewer streams at once; stop strings, log-probabilities only if needed"
        )
    return Answer("Prefill or decode?", verdict, figures, changes)


_KINDS = {"prefill": "prompts alone", "mixed": "prompts beside streams", "decode": "streams alone"}


def _bound(reading: Reading, rates: Rates | None) -> Answer:
    figures, shares = [], {}
    for kind in ("decode", "prefill"):
        seconds, steps, tokens = (
            reading.value(f"stemma_kind_{name}_total", kind=kind) for name in ("seconds", "steps", "tokens")
        )
        if not seconds or not steps:
            continue
        read, operations = _work(reading, kind)
        rows = tokens / steps
        figures += [
            Figure(f"{kind}: rows of a step", rows, "rows"),
            Figure(f"{kind}: reads", read / seconds / 1e9, "GB/s"),
            Figure(f"{kind}: multiplies", operations / seconds / 1e9, "GOP/s"),
        ]
        if rates is not None:
            shares[kind] = (read / seconds / rates.read, operations / seconds / rates.operations)
            figures += [
                Figure(f"{kind}: of the bandwidth", shares[kind][0], "share"),
                Figure(f"{kind}: of the compute", shares[kind][1], "share"),
            ]
    if not shares:
        why = "the machine's rates are not known" if rates is None else "no step was of one kind alone"
        change = "give --machine-bandwidth and --machine-compute, or ask on the server's machine with --measure"
        return Answer("Bandwidth or compute?", why, figures, [change] if rates is None else [])
    return Answer(
        "Bandwidth or compute?",
        "; ".join(map(_verdict, shares, shares.values())),
        figures,
        _bound_changes(reading, shares),
    )


def _verdict(kind: str, shares: tuple[float, float]) -> str:
    if max(shares) < 0.4:
        return f"{kind} is bound by neither: small steps, whose calls cost more than what they compute"
    return f"{kind} is bound by {'bandwidth' if shares[0] >= shares[1] else 'compute'}"


def _bound_changes(reading: Reading, shares: dict[str, tuple[float, float]]) -> list[str]:
    changes = []
    if "decode" in shares and shares["decode"][0] >= shares["decode"][1]:
        kv = reading.value("stemma_kind_seen_total", kind="decode") * reading.value("stemma_kv_token_bytes")
        weights = reading.value("stemma_kind_steps_total", kind="decode") * reading.value("stemma_model_row_bytes")
        if kv > weights:
            changes.append("decode reads more KV than weights: a KV dtype of 8 bits, or shorter contexts")
        changes.append("more streams at once share each reading of the weights; weights of fewer bits are read faster")
    if "prefill" in shares and shares["prefill"][1] >= MOST:
        changes.append(
            "prompts are computed about as fast as this machine can: compute fewer tokens (cache, shorter prompts)"
        )
    return changes


def _work(reading: Reading, kind: str) -> tuple[float, float]:
    """Bytes that the steps of a kind read, and operations that they did."""
    steps, tokens, seen = (
        reading.value(f"stemma_kind_{name}_total", kind=kind) for name in ("steps", "tokens", "seen")
    )
    kv = (
        seen * reading.value("stemma_kv_token_bytes") if kind == "decode" else 0.0
    )  # a prompt's rows share what they read
    read = steps * reading.value("stemma_model_row_bytes") + kv
    operations = tokens * reading.value("stemma_model_row_operations") + seen * reading.value(
        "stemma_model_seen_operations"
    )
    return read, operations


def _hit_rate(reading: Reading) -> float:
    hit, miss = reading.value("stemma_cache_hit_tokens_total"), reading.value("stemma_cache_miss_tokens_total")
    return hit / (hit + miss) if hit + miss else 0.0


def _memory(reading: Reading) -> Answer:
    blocks, size = reading.by("stemma_kv_blocks", "state"), reading.value("stemma_kv_block_size_tokens")
    total = sum(blocks.values()) or 1e-12
    tokens, kv_bytes = total * size, reading.value("stemma_kv_token_bytes")
    evicted, preempted = reading.value("stemma_evicted_blocks_total"), reading.value("stemma_preemptions_total")
    fragmentation, hit_rate = reading.value("stemma_cache_fragmentation_ratio"), _hit_rate(reading)
    recomputed = reading.value("stemma_recomputed_tokens_total")
    figures = [
        Figure("size of the pool", tokens, "tokens"),
        Figure("in memory", tokens * kv_bytes / (1 << 30), "GiB"),
        *(Figure(state, count / total, "share") for state, count in blocks.items()),
        Figure("fragmented", fragmentation, "share"),
        Figure("prompt tokens that were cached", hit_rate, "share"),
        Figure("evicted since", evicted * size, "tokens"),
        Figure("preemptions", preempted, "times"),
        Figure("computed again behind them", recomputed, "tokens"),
    ]
    changes = []
    more = "raise memory, and kv_tokens if it is given (`stemma plan`)"
    if preempted > 0:
        changes.append(f"sequences had to make room: {more}, or lower max_running")
    if evicted > total:
        changes.append(f"the pool was evicted {evicted / total:.0f} times over: {more}, pin what must stay")
    if fragmentation > 0.25:
        changes.append("short branches leave blocks half empty: lower block_size")
    if hit_rate < 0.1 and blocks.get("cached", 0) / total > MOST:
        changes.append(
            "much is cached and little is found: prompts part near their beginning; `stemma cache explain` says where"
        )
    full = 1 - blocks.get("free", 0) / total
    return Answer("What is the KV doing?", f"{full:.0%} full, {hit_rate:.0%} of prompt tokens reused", figures, changes)


def _waiting(reading: Reading) -> Answer:
    figures, slow = [], []
    for name, title in (("queue", "queue"), ("ttft", "first token"), ("inter_token", "between tokens")):
        for share in (0.5, 0.99):
            value = reading.quantile(f"stemma_{name}_seconds", share)
            if value is not None:
                figures.append(Figure(f"{title}, p{share * 100:.0f} at most", value, "seconds"))
    figures += [
        Figure("running", reading.value("stemma_sequences_running"), "sequences"),
        Figure("waiting", reading.value("stemma_sequences_waiting"), "sequences"),
    ]
    queue = reading.value("stemma_queue_seconds_sum")
    total = reading.value("stemma_request_seconds_sum") or 1e-12
    figures.insert(0, Figure("requests' time in the queue", queue / total, "share"))
    busy = sum(reading.by("stemma_phase_seconds_total", "phase").values()) or 1e-12
    running = max(0.0, total - queue) / busy
    figures.append(Figure("running on average, of those that ended", running, "sequences"))
    changes = []
    if queue / total > 0.25:
        slow.append("the queue is long")
        changes.append(_more_at_once(reading, running))
    gap, usual = (reading.quantile("stemma_inter_token_seconds", share) for share in (0.99, 0.5))
    if gap and usual and gap > 8 * usual:
        slow.append("streams stall")
        is_set = reading.value("stemma_tpot_target_seconds") > 0
        changes.append(
            f"long prompts hold up running streams: {'lower' if is_set else 'set'} tpot_ms, or lower max_chunk"
        )
    return Answer("Who waits?", " and ".join(slow) or "nobody for long", figures, changes)


def _more_at_once(reading: Reading, running: float) -> str:
    """What to change so that fewer wait: what keeps them out is the places, the target, or what there is no room or no
    time for. running: how many did on average while steps were computed."""
    places, target = reading.value("stemma_most_running"), reading.value("stemma_tpot_target_seconds")
    if running > MOST * places:
        return "those that run take the places that there are: raise max_running while memory lasts, then add a replica"
    if target:
        return (
            f"no more may run beside each other if a token shall take {target * 1000:g} ms: raise tpot_ms, or add a "
            "replica"
        )
    return (
        "places are free: others wait for room (raise memory, and kv_tokens if it is given) or for prompts before "
        "theirs (let them share more, add a replica)"
    )
