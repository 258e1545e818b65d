"""What the doctor reads and says: of made-up metrics whose answer is known, and of a live server."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from stemma.commands.doctor import DoctorOptions
from stemma.doctor.diagnosis import diagnose
from stemma.doctor.reading import NotOurs, read
from stemma.doctor.request import explain, find
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.planning import Rates
from stemma.terminal.doctor import show

RATES = Rates(read=10e9, operations=100e9)


def metrics(**changes: float) -> str:
    """A server that decoded: 100 steps of 2 rows over 1 GB of weights in 12 s, and nothing else worth telling."""
    values = {
        "steps": 100, "decode_seconds": 12.0, "decode_steps": 100, "decode_tokens": 200, "decode_seen": 2000,
        "prefill_seconds": 1.0, "prefill_steps": 2, "prefill_tokens": 45, "prefill_seen": 1000,
        "masks": 0.0, "text": 0.1, "free": 60, "leased": 10, "cached": 30, "hit": 900, "miss": 100, "evicted": 0,
        "preemptions": 0, "fragmentation": 0.05, "queue": 0.1, "most_running": 4, "target": 0.0, "worst_gap": 0.05,
    } | changes  # fmt: skip
    lines = [f"# TYPE stemma_steps counter\nstemma_steps_total {values['steps']}"]
    for name in ("seconds", "steps", "tokens", "seen"):
        lines.append(f"# TYPE stemma_kind_{name} counter")
        lines += [
            f'stemma_kind_{name}_total{{kind="{kind}"}} {values[f"{kind}_{name}"]}' for kind in ("decode", "prefill")
        ]
    forward = values["decode_seconds"] + values["prefill_seconds"]
    lines.append("# TYPE stemma_phase_seconds counter")
    for phase, seconds in (("forward", forward), ("masks", values["masks"]), ("text", values["text"])):
        lines.append(f'stemma_phase_seconds_total{{phase="{phase}"}} {seconds}')
    lines.append("# TYPE stemma_kv_blocks gauge")
    lines += [f'stemma_kv_blocks{{state="{state}"}} {values[state]}' for state in ("free", "leased", "cached")]
    for name, value in (
        ("cache_hit_tokens", values["hit"]), ("cache_miss_tokens", values["miss"]),
        ("evicted_blocks", values["evicted"]), ("preemptions", values["preemptions"]),
    ):  # fmt: skip
        lines.append(f"# TYPE stemma_{name} counter\nstemma_{name}_total {value}")
    for name, value in (
        ("kv_block_size_tokens", 16), ("cache_fragmentation_ratio", values["fragmentation"]),
        ("model_row_bytes", 1e9), ("model_row_operations", 2e9), ("model_seen_operations", 1e5),
        ("kv_token_bytes", 1e5), ("most_running", values["most_running"]), ("tpot_target_seconds", values["target"]),
    ):  # fmt: skip
        lines.append(f"# TYPE stemma_{name} gauge\nstemma_{name} {value}")
    lines.append('# TYPE stemma_model_bytes gauge\nstemma_model_bytes{model="m",storage="Q4_1"} 1e9')
    lines.append(f"# TYPE stemma_queue_seconds histogram\nstemma_queue_seconds_sum {values['queue']}")
    lines += [f'stemma_queue_seconds_bucket{{le="{le}"}} {n}' for le, n in (("0.01", 50), ("0.1", 99), ("+Inf", 100))]
    lines.append("stemma_queue_seconds_count 100")
    gaps = ((0.01, 60), (values["worst_gap"], 100), ("+Inf", 100))
    lines.append("# TYPE stemma_inter_token_seconds histogram\nstemma_inter_token_seconds_sum 1")
    lines += [f'stemma_inter_token_seconds_bucket{{le="{le}"}} {n}' for le, n in gaps]
    lines.append("stemma_inter_token_seconds_count 100")
    lines.append(
        "# TYPE stemma_request_seconds histogram\nstemma_request_seconds_sum 20\nstemma_request_seconds_count 9"
    )
    return "\n".join(lines) + "\n"


def answers(**changes: float):
    return diagnose(read(metrics(**changes)), RATES)


def figure(answer, name: str) -> float:
    return next(each.value for each in answer.figures if each.name == name)


def test_decode_that_reads_at_the_machines_speed_is_bound_by_bandwidth():
    time, bound, memory, waiting = answers()
    assert time.verdict.startswith("decode")
    assert figure(time, "the model's time in streams alone") == 12 / 13
    assert bound.verdict == "decode is bound by bandwidth; prefill is bound by compute"
    assert figure(bound, "decode: reads") == pytest.approx((100 * 1e9 + 2000 * 1e5) / 12 / 1e9)
    assert figure(bound, "decode: of the bandwidth") == pytest.approx(0.835, abs=1e-3)
    assert figure(bound, "decode: rows of a step") == 2
    assert any("share each reading" in change for change in bound.changes)
    assert memory.verdict == "40% full, 90% of prompt tokens reused"
    assert waiting.verdict == "nobody for long"
    assert figure(waiting, "queue, p99 at most") == 0.1
    assert figure(waiting, "running on average, of those that ended") == pytest.approx((20 - 0.1) / 13.1)


def test_prompts_at_full_speed_are_bound_by_compute_and_mostly_new_ones_are_told():
    time, bound, *_ = answers(prefill_seconds=25.0, prefill_tokens=1000, hit=10)
    assert time.verdict.startswith("prefill")
    assert any("put first what they share" in change for change in time.changes)
    assert "prefill is bound by compute" in bound.verdict
    assert figure(bound, "prefill: of the compute") == pytest.approx((1000 * 2e9 + 1000 * 1e5) / 25 / 100e9)


def test_small_steps_are_bound_by_neither():
    _, bound, *_ = answers(decode_seconds=60.0)
    assert "decode is bound by neither" in bound.verdict


def test_contexts_that_outweigh_the_weights_ask_for_a_smaller_kv():
    _, bound, *_ = answers(decode_seen=4_000_000, decode_seconds=55.0)
    assert any("more KV than weights" in change for change in bound.changes)


@pytest.mark.parametrize(
    ("changes", "at", "word"),
    [
        ({"masks": 3.0}, 0, "masks"),
        ({"text": 9.0}, 0, "host is slow"),
        ({"preemptions": 3}, 2, "make room"),
        ({"evicted": 500}, 2, "5 times"),
        ({"fragmentation": 0.4}, 2, "block_size"),
        ({"hit": 1, "cached": 300}, 2, "little is found"),
        ({"queue": 11.0, "most_running": 1}, 3, "raise max_running"),
        ({"queue": 15.0, "target": 0.05}, 3, "a token shall take 50 ms: raise tpot_ms"),
        ({"queue": 15.0}, 3, "places are free"),
        ({"worst_gap": 0.5}, 3, "set tpot_ms"),
        ({"worst_gap": 0.5, "target": 0.05}, 3, "lower tpot_ms"),
    ],
)
def test_each_trouble_is_told_with_what_to_change_and_not_without_it(changes, at, word):
    assert not any(word in change for change in answers()[at].changes)
    assert any(word in change for change in answers(**changes)[at].changes)


def test_without_rates_it_says_what_to_give():
    _, bound, *_ = diagnose(read(metrics()), None)
    assert "--machine-bandwidth" in bound.changes[0]
    assert figure(bound, "decode: reads") > 0


def test_of_two_readings_only_what_was_counted_between_them_counts():
    now, before = read(metrics(decode_seconds=20.0, decode_steps=200, steps=200)), read(metrics())
    between = now.since(before)
    assert between.value("stemma_kind_seconds_total", kind="decode") == 8.0
    assert between.value("stemma_kv_blocks", state="free") == 60
    with pytest.raises(InvalidRequest, match="another run"):
        before.since(now)


def test_a_server_that_did_nothing_and_metrics_of_others():
    (only,) = answers(steps=0)
    assert only.verdict == "nothing was computed yet"
    with pytest.raises(NotOurs, match="stemma serve"):
        read("# TYPE x counter\nx_total 3\n")
    with pytest.raises(NotOurs, match="Prometheus"):
        read("{not metrics")


KV = 'stemma_kv_blocks{state="free"} 3\nstemma_kv_blocks{pool="window"} 3\n'
DID = 'stemma_steps_total 5\nstemma_phase_seconds_total{phase="forward"} 1\n'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (KV, "stemma_steps_total"),
        (KV + "stemma_steps_total 5\n", "stemma_kind_seconds_total"),
        (KV + DID, "stemma_kind_seconds_total"),
        (metrics().replace("stemma_phase_seconds_total", "stemma_spent_total"), "stemma_phase_seconds_total"),
        (metrics() + 'stemma_steps_total{instance="b"} 5\n', "several servers"),
        (metrics() + 'stemma_queue_seconds_bucket{le="long"} 5\n', "'long'"),
    ],
)
def test_metrics_of_another_version_or_of_several_servers_are_told(text, word):
    with pytest.raises(NotOurs, match=word):
        diagnose(read(text), RATES)


def test_what_is_not_known_or_not_told_is_left_out():
    kinds = ("decode", "drafting", "other")
    odd = "".join(f'stemma_kind_seconds_total{{kind="{kind}"}} {at + 1}\n' for at, kind in enumerate(kinds))
    told = diagnose(read(KV + DID + odd + 'stemma_phase_seconds_total{phase="[/x]"} NaN\n'), RATES)
    assert told[0].verdict == "other"
    assert figure(told[0], "the model's time in drafting") == pytest.approx(2 / 6)
    assert told[1].verdict == "no step was of one kind alone"
    console = Console(width=120)
    with console.capture() as shown:
        console.print(show(diagnose(read(metrics() + 'stemma_phase_seconds_total{phase="[/x]"} 1\n'), RATES)))
    assert "the loop's time in [/x]" in shown.get()


def test_labels_that_a_collector_added_make_no_difference():
    lines = metrics().splitlines()
    added = [
        line if line.startswith("#")
        else line.replace("{", '{instance="a:1",') if "{" in line
        else line.replace(" ", '{instance="a:1"} ', 1)
        for line in lines
    ]  # fmt: skip
    assert diagnose(read("\n".join(added)), RATES) == answers()


LINE = {
    "request_id": "r1", "answer_id": "chatcmpl-1",
    "tokens": {"prompt": 900, "cached": 100, "prefilled": 800, "decoded": 5, "jumped": 2},
    "seconds": {
        "request": 2.0, "queue": 0.1, "first_token": 1.6, "total": 1.9,
        "prefill": {"forward": 1.4, "masks": 0.05}, "decode": {"forward": 0.2, "masks": 0.0},
    },
}  # fmt: skip


def test_one_request_is_found_by_either_id_and_its_time_adds_up():
    lines = ["plain text", json.dumps({"request_id": "r0", "note": "r1"}), json.dumps(LINE)]
    answer = explain(find(lines, "chatcmpl-1"))
    assert answer.verdict == "prefill, 75%"
    assert sum(each.value for each in answer.figures[:4]) == pytest.approx(2.0)
    assert figure(answer, "prefill: forward") == 1.4
    assert "800 prompt tokens were not cached" in answer.changes[0]
    assert "fifth" in explain({**LINE, "seconds": {**LINE["seconds"], "decode": {"masks": 1.0}}}).changes[-1]


@pytest.mark.parametrize("changes", [{"tokens": None}, {"seconds": None}, {"seconds": 3}, {"seconds": {"prefill": {}}}])
def test_a_line_of_another_version_is_told(changes):
    with pytest.raises(InvalidRequest, match="another version"):
        find([json.dumps(LINE | changes)], "r1")


def test_phases_and_tokens_that_another_version_did_not_tell_are_none():
    seconds = {**LINE["seconds"], "prefill": {}, "decode": {"more": 0.1}}
    answer = explain(find([json.dumps({**LINE, "seconds": seconds, "tokens": {}})], "r1"))
    assert answer.verdict == "prefill, 75%"
    assert answer.changes == []


@pytest.mark.parametrize("lines", [[], ["r1"], [json.dumps({"request_id": "r1", "seconds": {"request": 1}})]])
def test_a_request_that_is_not_there_or_gave_nothing_is_told(lines):
    with pytest.raises(InvalidRequest) as refused:
        find(lines, "r1")
    assert refused.value.param == "request"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"seconds": math.nan}, "seconds"),
        ({"seconds": -1.0}, "seconds"),
        ({"seconds": 1.0, "before": Path("a")}, "seconds"),
        ({"seconds": 1.0, "metrics": Path("a")}, "seconds"),
        ({"log": Path("a")}, "request"),
        ({"log": Path("a"), "request": "r", "metrics": Path("b")}, "log"),
    ],
)
def test_options_that_it_would_not_heed_are_refused(options, param):
    with pytest.raises(InvalidRequest) as refused:
        DoctorOptions(**options)
    assert refused.value.param == param


def test_a_clients_id_is_no_markup():
    console = Console(width=120)
    with console.capture() as shown:
        console.print(show([explain({**LINE, "request_id": "[/r1]"})]))
    assert "Where did the time of [/r1] go?" in shown.get()


def test_what_is_beyond_the_last_bucket_is_null_in_json():
    text = metrics().replace('le="0.1"} 99', 'le="0.1"} 50')
    told = [answer.as_json() for answer in diagnose(read(text), RATES)]
    assert {each["name"]: each["value"] for each in told[-1]["figures"]}["queue, p99 at most"] is None
    json.dumps(told, allow_nan=False)
