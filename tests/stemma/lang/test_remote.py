"""The same programs on a live server: equal tokens, equal values, and everything ends there when it ends here."""

from __future__ import annotations

import socket
from typing import Literal

import pytest
from pydantic import BaseModel, Field

import stemma
from stemma.fsm.structural_tags import FreeText
from stemma.lang.chat import Chat
from stemma.lang.program import program
from stemma.lang.state import State
from stemma.runtime.errors import BranchError, InvalidRequest, RemoteError
from tests.stemma.server.live import is_idle, live_server, wait_until

SYSTEM = "You judge essays by several dimensions, each on its own, and are brief. " * 2


class Person(BaseModel):
    name: str = Field(max_length=6)
    age: int = Field(ge=0, le=150)


@program
async def judge(s: State, essay: str) -> tuple[list[str], str, str]:
    s.system(SYSTEM).user(f"Essay: {essay}")

    async def one(b: State, dimension: str) -> str:
        return await b.user(f"Judge its {dimension}.").gen(max_tokens=6, ignore_eos=True)

    judged = await s.fork(["clarity", "style"], one)
    grade = await s.user("Grade?").select(["good", "bad"])
    return judged, grade, await s.user("Sure?").gen(Literal["yes", "no"])


@pytest.fixture(scope="module")
def engine(loaded):
    with stemma.Engine.of(loaded, kv_tokens=16384) as engine:
        yield engine


@pytest.fixture(scope="module")
def live(engine):
    with live_server(engine) as live:
        yield live


@pytest.fixture
def remote(live, engine):
    with stemma.connect(live.url) as remote:
        yield remote
    wait_until(lambda: is_idle(engine))


def test_a_program_gives_the_same_here_and_there(llm, remote):
    here, there = judge.run_sync(llm, "an essay"), judge.run_sync(remote, "an essay")
    assert there.value == here.value
    assert there.usage.completion_tokens == here.usage.completion_tokens
    branches = [child for child in there.trace.children if child.kind == "branch"]
    assert all(branch.total_usage.cached_tokens > len(SYSTEM) for branch in branches)


def test_tokens_are_the_same_here_and_there(llm, remote):
    made = []
    for backend in (llm, remote):
        s = State(backend, max_tokens=12, ignore_eos=True, temperature=1.0, seed=4).system("<|end|>").user("hi €")
        s.gen().result()
        gen = s.user("more").gen()
        parts = list(gen)
        assert "".join(part.text for part in parts) == gen.completion.text
        assert gen.usage.cached_tokens > 20
        made.append(s.tokens)
    assert made[0] == made[1]


def test_a_chat_there(llm, remote, tmp_path):
    answers = []
    for backend in (llm, remote):
        chat = Chat(backend, "be brief", max_tokens=6, ignore_eos=True)
        answers.append([chat.send("one").result(), chat.send("two").result()])
        chat.save(tmp_path / "chat.json")
        assert Chat.load(remote, tmp_path / "chat.json").messages == chat.messages
        chat.release()
    assert answers[0] == answers[1]


def test_values_there(llm, remote):
    assert (
        remote.generate("who?", form=Person, max_tokens=200).value
        == llm.generate("who?", form=Person, max_tokens=200).value
    )
    answers = remote.generate(["a", "b"], form=Literal["yes", "no"])
    assert [answer.value for answer in answers] == [
        a.value for a in llm.generate(["a", "b"], form=Literal["yes", "no"])
    ]
    assert (
        remote.generate("x", max_tokens=3, ignore_eos=True).tokens
        == llm.generate("x", max_tokens=3, ignore_eos=True).tokens
    )
    assert State(remote).user("x").gen(stemma.Regex("[a-c]{3}")).result().strip("abc") == ""
    assert State(remote).user("x").gen(stemma.Grammar('root ::= "a" | "b"')).result() in "ab"


def test_many_runs_there(remote):
    runs = judge.map(remote, [f"essay {number}" for number in range(8)], concurrency=4).result()
    assert all(run.error is None for run in runs)


def test_a_cancelled_request_ends_there(remote, engine):
    gen = State(remote).user("x").gen(max_tokens=1500, ignore_eos=True)
    next(iter(gen))
    wait_until(lambda: is_idle(engine))


def test_a_failing_branch_ends_its_siblings_there(remote, engine):
    @program
    async def failing(s: State) -> None:
        async def one(b: State, item: int) -> str:
            if item:
                raise ValueError("no")
            return await b.gen(max_tokens=1500, ignore_eos=True)

        await s.user("x").fork([0, 1], one)

    with pytest.raises(BranchError, match=r"one\[1\]"):
        failing.run_sync(remote)
    wait_until(lambda: is_idle(engine))


def test_a_pin_there(remote, engine):
    s = State(remote).system(SYSTEM)
    with s.pinned(ttl=60):
        assert engine.stats().cache.leased > 0
    wait_until(lambda: engine.stats().cache.leased == 0)


def test_what_a_server_refuses_names_the_parameter(remote):
    with pytest.raises(InvalidRequest) as refused:
        State(remote).user("x").gen(max_tokens=10**6).result()
    assert refused.value.param == "max_tokens"


@pytest.mark.parametrize("options", [{"logprobs": 1}, {"grammar": FreeText()}])
def test_what_cannot_be_sent_is_refused_here(remote, options):
    with pytest.raises(InvalidRequest):
        remote.submit([1, 2], **options)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RemoteError, match="cannot be reached"):
        stemma.connect(url)
