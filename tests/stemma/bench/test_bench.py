"""Loading a server: what is asked, when, and what the figures come to."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stemma.bench.client import Record, Server, ServerUnfit
from stemma.bench.options import LoadOptions
from stemma.bench.pacing import Pace
from stemma.bench.report import Target, spread, summary
from stemma.bench.run import Measured, client, measure, measure_all
from stemma.bench.traces import read_trace
from stemma.bench.workloads import WORDS, Session, Shape, Turn, make_sessions
from stemma.runtime.errors import InvalidRequest
from stemma.terminal.bench import show


class Transport(httpx.AsyncBaseTransport):
    """A server of OpenAI's API that counts two tokens a word, and caches what an earlier prompt began with."""

    def __init__(self, fail_at: int | None = None, usage: bool = True, unknown: str = "") -> None:
        self.bodies: list[dict] = []
        self.unknown = unknown
        self.fail_at, self.usage = fail_at, usage

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "toy"}]})
        body = json.loads(request.content)
        if self.unknown in body:
            return httpx.Response(400, text=f"unknown field {self.unknown}")
        earlier = [_words(other) for other in self.bodies]
        self.bodies.append(body)
        if self.fail_at == len(self.bodies):
            return httpx.Response(429, text="too many")
        words = _words(body)
        hit = max((_common(words, other) for other in earlier), default=0)
        usage = {
            "prompt_tokens": 2 * len(words), "completion_tokens": body["max_tokens"],
            "prompt_tokens_details": {"cached_tokens": 2 * hit},
        }  # fmt: skip
        pieces = [{"choices": [{"delta": {"role": "assistant", "content": ""}}]}]
        pieces += [{"choices": [{"delta": {"content": f"w{at} "}}]} for at in range(body["max_tokens"])]
        pieces += [{"choices": [], "usage": usage}] if self.usage else []
        lines = [f"data: {json.dumps(piece)}\n\n" for piece in pieces]
        return httpx.Response(200, text="".join([*lines, "data: [DONE]\n\n"]))


def _words(body: dict) -> list[str]:
    return " ".join(message["content"] for message in body["messages"]).split()


def _common(one: list[str], other: list[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@asynccontextmanager
async def toy(transport: Transport) -> AsyncIterator[Server]:
    async with httpx.AsyncClient(transport=transport, base_url="http://toy") as http:
        yield await Server.find(http, None)


async def test_prompts_have_the_tokens_asked_for_by_the_servers_own_count():
    transport = Transport()
    async with toy(transport) as server:
        assert server.model == "toy"
        tokens_a_word = await server.tokens_a_word(WORDS)
        sessions = make_sessions(Shape(prompt_tokens=100, output_tokens=3), 5, tokens_a_word)
        run = await measure(server, sessions, Pace(concurrency=2))
    assert tokens_a_word == 2
    assert [record.prompt_tokens for record in run.records] == [100] * 5
    assert [record.completion_tokens for record in run.records] == [3] * 5
    assert {body["max_tokens"] for body in transport.bodies[2:]} == {3}


async def test_families_share_their_beginning_and_nothing_else():
    async with toy(Transport()) as server:
        shape = Shape("prefix", prompt_tokens=60, prefix_tokens=200, families=3, output_tokens=1)
        run = await measure(server, make_sessions(shape, 12, 2.0), Pace())
    cached = [record.cached_tokens for record in run.records]
    assert max(cached[:3]) < 200
    assert all(200 <= hit < 260 for hit in cached[3:])
    assert summary(run, Target()).hit_rate == sum(cached) / (12 * 260)


async def test_a_chat_sends_the_servers_own_answers_back():
    transport = Transport()
    async with toy(transport) as server:
        shape = Shape("chat", prompt_tokens=20, prefix_tokens=40, turns=3, output_tokens=2)
        await measure(server, make_sessions(shape, 1, 2.0), Pace())
    last = transport.bodies[-1]["messages"]
    assert [message["role"] for message in last] == ["system", *["user", "assistant"] * 2, "user"]
    assert last[2]["content"] == "w0 w1 "


async def test_no_run_asks_what_another_or_the_warmup_did(monkeypatch):
    transport = Transport()
    monkeypatch.setattr(
        "stemma.bench.run.client", lambda *_: httpx.AsyncClient(transport=transport, base_url="http://toy")
    )  # fmt: skip
    options = LoadOptions(requests=3, warmup=2, concurrency=(1, 2), rates=(1000.0,))
    runs: list[Measured] = []
    await measure_all("http://toy", None, Shape(prompt_tokens=40), options, runs.append)
    texts = [body["messages"][0]["content"] for body in transport.bodies[2:]]
    assert len(texts) == len(set(texts)) == 2 + 3 * 3
    assert [run.pace.name for run in runs] == ["1000 a second", "1 at once", "2 at once"]


async def test_what_no_run_could_play_is_refused_before_any_is_measured(monkeypatch, tmp_path):
    transport, runs = Transport(), []
    monkeypatch.setattr(
        "stemma.bench.run.client", lambda *_: httpx.AsyncClient(transport=transport, base_url="http://toy")
    )  # fmt: skip
    (tmp_path / "t.jsonl").write_text('{"prompt": "a"}', encoding="utf-8")
    options = LoadOptions(trace=tmp_path / "t.jsonl", concurrency=(1,), speed=1.0)
    with pytest.raises(InvalidRequest, match="timestamps"):
        await measure_all("http://toy", None, Shape(), options, runs.append)
    assert runs == []
    assert len(transport.bodies) == 2, "those that count its tokens"


async def test_who_cancels_a_run_keeps_what_has_ended():
    runs: list[Measured] = []
    async with toy(Transport()) as server:
        sessions = [Session([Turn("a b", 1)], at=0.0), Session([Turn("c", 1)], at=600.0)]
        has_ended = asyncio.Event()
        task = asyncio.create_task(
            measure(server, sessions, Pace(speed=1.0), keep=runs.append, progress=lambda *_: has_ended.set())
        )
        await asyncio.wait_for(has_ended.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [len(run.records) for run in runs] == [1]


async def test_what_fails_is_counted_and_ends_its_session():
    transport = Transport(fail_at=2)
    async with toy(transport) as server:
        sessions = [Session([Turn("a b", 1), Turn("c", 1), Turn("d", 1)]), Session([Turn("e f", 1)])]
        told = summary(await measure(server, sessions, Pace()), Target())
    assert told.failed == {"status 429: too many": 1}
    assert (told.num_requests, told.good_share) == (3, 2 / 3)


async def test_a_server_without_usage_or_models_is_refused():
    async with toy(Transport(usage=False)) as server:
        with pytest.raises(ServerUnfit, match="prompt_tokens"):
            await server.tokens_a_word(WORDS)
    transport = httpx.MockTransport(lambda request: httpx.Response(404))
    async with httpx.AsyncClient(transport=transport, base_url="http://toy") as http:
        with pytest.raises(ServerUnfit, match="v1/models"):
            await Server.find(http, None)


async def test_what_only_some_servers_know_is_left_out_where_it_is_refused():
    transport = Transport(unknown="ignore_eos")
    async with toy(transport) as server:
        assert await server.tokens_a_word(WORDS) == 2
        run = await measure(server, [Session([Turn("a", 2)])], Pace())
    assert run.records[0].error is None
    assert all("ignore_eos" not in body for body in transport.bodies)


def record(due: float, pieces: list[float], tokens: int, error: str | None = None) -> Record:
    ended = pieces[-1] if pieces else due
    return Record(due, due, ended, pieces, prompt_tokens=10, completion_tokens=tokens, error=error)


def test_figures_of_a_run():
    records = [record(0.0, [1.0, 1.5, 2.0], 5), record(1.0, [1.2], 1), record(1.0, [], 0, "status 500")]
    told = summary(Measured(Pace(rate=2.0), records, 4.0), Target(ttft=0.5, tpot=0.1))
    assert told.ttft.p50 == pytest.approx(0.2)
    assert told.ttft.worst == 1.0
    assert told.tpot.mean == 0.25  # a second for four further tokens
    assert told.inter_token.p99 == 0.5
    assert told.total.worst == 2.0
    assert told.hit_rate is None
    assert (told.good_share, told.goodput) == (1 / 3, 0.25)
    assert told.output_tokens_a_second == 1.5
    assert told.as_json()["total"]["p50"] == pytest.approx(0.2)


def test_a_run_of_failures_has_no_latencies_and_json_says_null():
    told = summary(Measured(Pace(), [record(0.0, [], 0, "status 500")], 1.0), Target())
    assert told.goodput == 0
    assert json.loads(json.dumps(told.as_json()))["ttft"]["p99"] is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_a_percentile_is_the_least_value_that_so_many_are_not_above(values):
    told = spread(values)
    for share, value in ((0.5, told.p50), (0.9, told.p90), (0.99, told.p99)):
        assert sum(each <= value for each in values) >= share * len(values)
        assert sum(each < value for each in values) < share * len(values)


def test_a_rate_is_kept_on_average_and_evenly_if_asked():
    sessions = [Session([Turn("a", 1)])] * 4001
    starts = Pace(rate=8.0).starts(sessions, seed=1)
    gaps = [after - before for before, after in pairwise(starts)]
    assert sum(gaps) / len(gaps) == pytest.approx(1 / 8, rel=0.05)
    assert sum(gap > 1 / 8 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), abs=0.03)  # exponential
    even = Pace(rate=8.0, burstiness=math.inf).starts(sessions, seed=1)
    assert even[:3] == [0.0, 0.125, 0.25]


def test_a_trace_shares_what_its_blocks_share(tmp_path):
    lines = [
        {"timestamp": 5000, "input_length": 1100, "output_length": 7, "hash_ids": [1, 2, 3]},
        {"timestamp": 6500, "input_length": 1536, "output_length": 1, "hash_ids": [1, 2, 4]},
    ]
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    first, second = read_trace(path, 1.0)
    assert (first.at, second.at) == (0.0, 1.5)
    one, other = first.turns[0].text.split(), second.turns[0].text.split()
    assert (len(one), len(other), first.turns[0].max_tokens) == (1100, 1536, 7)
    assert 1024 <= _common(one, other) < 1040
    assert read_trace(path, 1.0, salt=1)[0].turns[0].text.split()[:20] != one[:20]
    assert Pace(speed=3.0).starts([first, second], 0) == [0.0, 0.5]


def test_blocks_of_sixteen_and_texts_are_read_too(tmp_path):
    path = tmp_path / "trace.jsonl"
    bailian = {"chat_id": 1, "timestamp": 2.5, "input_length": 33, "output_length": 4, "hash_ids": [7, 8, 9]}
    text = {"prompt": "Say hello.", "max_tokens": 9, "timestamp": 0.5}
    path.write_text(f"{json.dumps(bailian)}\n\n{json.dumps(text)}\n", encoding="utf-8")
    first, second = read_trace(path, 1.0)
    assert (first.turns[0], first.at) == (Turn("Say hello.", 9), 0.0)
    assert (len(second.turns[0].text.split()), second.at) == (33, 2.0)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"prompt": 3}',
        '{"prompt": "a", "max_tokens": 1e999}',
        '{"prompt": "a", "max_tokens": -4}',
        '{"prompt": "a", "timestamp": NaN}',
        '{"input_length": 9, "output_length": 1, "hash_ids": [1], "timestamp": "x"}',
        '{"input_length": 9999, "output_length": 1, "hash_ids": [1], "timestamp": 1}',
    ],
)
def test_a_line_that_is_no_request_is_named(tmp_path, line):
    path = tmp_path / "trace.jsonl"
    path.write_text('{"prompt": "a"}\n' + line, encoding="utf-8")
    with pytest.raises(InvalidRequest, match="line 2"):
        read_trace(path, 1.0)


def test_a_file_of_no_text_is_named(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match=r"trace\.jsonl cannot be read"):
        read_trace(path, 1.0)


def test_a_trace_without_times_needs_a_pace(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text('{"prompt": "a"}', encoding="utf-8")
    with pytest.raises(InvalidRequest, match="timestamps"):
        Pace(speed=1.0).starts(read_trace(path, 1.0), 0)


@pytest.mark.parametrize(
    ("make", "param"),
    [
        (lambda: Pace(rate=0.0), "rate"),
        (lambda: Pace(rate=math.inf), "rate"),
        (lambda: Pace(concurrency=0), "concurrency"),
        (lambda: Pace(concurrency=1, rate=1.0), "rate"),
        (lambda: Shape(prompt_tokens=0), "prompt_tokens"),
        (lambda: Shape(spread=1.0), "spread"),
        (lambda: Shape("soup"), "workload"),
        (lambda: LoadOptions(requests=0), "requests"),
        (lambda: LoadOptions(speed=1.0), "speed"),
        (lambda: LoadOptions(timeout=0.0), "timeout"),
        (lambda: LoadOptions(ttft_ms=-1.0), "ttft_ms"),
        (lambda: LoadOptions(tpot_ms=math.nan), "tpot_ms"),
        (lambda: client("http://toy", "\u00e9", 1.0), "key"),
    ],
)
def test_options_that_cannot_be_met_are_refused_by_name(make, param):
    with pytest.raises(InvalidRequest) as refused:
        make()
    assert refused.value.param == param


def test_sizes_spread_around_what_was_asked():
    sessions = make_sessions(Shape(prompt_tokens=100, spread=0.5), 400, 1.0)
    sizes = [len(session.turns[0].text.split()) for session in sessions]
    assert min(sizes) >= 50
    assert max(sizes) <= 150
    assert sum(sizes) / len(sizes) == pytest.approx(100, rel=0.05)
    assert make_sessions(Shape(seed=3), 2, 1.0) == make_sessions(Shape(seed=3), 2, 1.0)
    assert make_sessions(Shape(seed=-1), 2, 1.0) != make_sessions(Shape(seed=1), 2, 1.0)


def test_a_chart_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    from stemma.bench.draw import draw

    run = Measured(Pace(), [record(0.0, [at * 0.7 + at / 9 for at in range(1, 4)], 3)], 1.0)
    draw(tmp_path / "a.png", [(run, summary(run, Target()))], Target(ttft=0.5))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_chart_is_refused_before_it_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from stemma.bench.draw import NoCharts, check

    check(tmp_path / "a.svg")
    with pytest.raises(NoCharts, match="png"):
        check(tmp_path / "a.soup")


def test_a_servers_words_are_no_markup():
    run = Measured(Pace(), [record(0.0, [], 0, "status 500: [/v1/chat] failed")], 1.0)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(show([summary(run, Target())], Target()))
    assert "1 failed: status 500: [/v1/chat] failed" in shown.get()
