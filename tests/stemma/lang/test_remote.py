"""The same programs on a live server: equal tokens, equal values, and everything ends there when it ends here."""

from __future__ import annotations

import re
import socket
from typing import Literal

import pytest
from pydantic import BaseModel, Field

import stemma
from stemma.fsm.languages.structural_tags import FreeText
from stemma.fsm.regex import Regex
from stemma.lang.chats.chat import Chat
from stemma.lang.programs.program import program
from stemma.lang.states.state import State
from stemma.runtime.errors import BranchError, InvalidRequest, RemoteError
from stemma.server import ApiKey, ServerConfig
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
    with stemma.connect(f"{live.url}/v1/") as remote:  # as the server prints it
        yield remote
    wait_until(lambda: is_idle(engine))


def test_a_program_gives_the_same_here_and_there(llm, remote):
    here, there = judge.run_sync(llm, "an essay"), judge.run_sync(remote, "an essay")
    assert there.value == here.value
    assert there.usage.completion_tokens == here.usage.completion_tokens
    branches = [child for child in there.trace.children if child.kind == "branch"]
    assert [branch.total_usage.cached_tokens > len(SYSTEM) for branch in branches] == [True, True]


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


def find(on: bool) -> str:
    """Find it."""
    return "found"


def test_calls_there(llm, remote):
    """Bound there as here: the same calls, and the same tokens behind them."""
    made = []
    for model in (llm, remote):
        with stemma.State(model, seed=2, temperature=1.0, max_tokens=80, finish_in_time=True) as state:
            said = state.tools(find).user("Is it?").call(required=True, max_calls=2).result()
            for call in said.calls:
                state.result(call, call.run_sync())
            made.append(([call.arguments for call in said.calls], state.tokens))
            form = state.call(Literal["yes", "no"]).result()
            assert form.calls or form.value in ("yes", "no")
    assert made[0] == made[1]


def test_the_tree_there(live, engine, remote):
    """The server's own, with the names that this caller has for its namespaces."""
    remote.generate("a text that only this test has", max_tokens=2, namespace="salt")
    here, there = engine.tree(), remote.tree()

    def facts(node):
        return (node.tokens, node.blocks, node.hits, [facts(child) for child in node.children])

    assert [facts(root) for root in there] == [facts(root) for root in here]
    assert {root.namespace for root in there} >= {"salt"}
    assert {root.namespace.lstrip("/") for root in here} == {root.namespace for root in there}
    assert remote.explain(list(b"a text that only this test has"), "salt").hit_len > 20
    assert remote.context_length == engine.context_length


def test_a_tenant_sees_its_own_part_of_the_tree(loaded):
    keys = (ApiKey("alice", "a"), ApiKey("bob", "b"), ApiKey("root", "r", is_admin=True))
    with stemma.Engine.of(loaded, kv_tokens=2048) as engine, live_server(engine, ServerConfig(api_keys=keys)) as live:
        seen = {}
        for key in "abr":
            with stemma.connect(live.url, api_key=key) as remote:
                if key != "r":
                    remote.generate(f"text of {key} ............", max_tokens=1)
                    remote.generate(f"text of {key} ............", max_tokens=1, namespace="s")
                seen[key] = [root.namespace for root in remote.tree()]
        assert seen == {"a": ["", "s"], "b": ["", "s"], "r": ["alice", "alice/s", "bob", "bob/s"]}


def test_vectors_and_scores_there(llm, remote):
    texts = ["one text", "another text", "a third"]
    here, there = llm.embed(texts, dimensions=8), remote.embed(texts, dimensions=8)
    for ours, theirs in zip(here, there, strict=True):
        assert theirs.vector == pytest.approx(ours.vector, abs=1e-6)
        assert theirs.usage.prompt_tokens == ours.usage.prompt_tokens == sum(theirs.usage[2:4])
    assert remote.embed("one text", dimensions=8).vector == pytest.approx(here[0].vector, abs=1e-6)
    values = [[score.value for score in model.score("which?", texts)] for model in (llm, remote)]
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    with pytest.raises(InvalidRequest, match="dimensions"):
        remote.embed("x", dimensions=10**6)


def test_samples_there(llm, remote):
    options = {"max_tokens": 6, "temperature": 1.0, "seed": 5}
    samples = [[one.tokens for one in model.sample("go", 3, **options)] for model in (llm, remote)]
    assert samples[0] == samples[1]
    assert len(set(samples[0])) == 3
    with pytest.raises(InvalidRequest):
        remote.sample("go", 0)


def test_progress_there(remote):
    seen = []
    remote.generate(["a", "b"], max_tokens=2, progress=lambda what, share: seen.append(share))
    assert seen == [0.5, 1.0]


def test_many_runs_there_are_those_here_in_the_same_order(llm, remote):
    essays = [f"{word} " * 20 for word in ("sea", "sun", "a", "of", "1", "harbour", "why", "Zoë")]
    here = [judge.run_sync(llm, essay).value for essay in essays]
    assert len(set(map(str, here))) > 4  # so that another order would be seen
    there = judge.map(remote, essays, concurrency=4).result()
    assert [(run.value, run.error) for run in there] == [(value, None) for value in here]


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


def test_a_pin_that_ran_out_is_let_go_in_silence(remote, engine, monkeypatch):
    """Its blocks are anybody's while the caller still believes in it; what the server then answers is no error."""
    call, refused = remote._call, []

    def listening(method, path, body=None):
        try:
            return call(method, path, body)
        except RemoteError as error:
            refused.append((method, error.status))
            raise

    monkeypatch.setattr(remote, "_call", listening)
    with State(remote).system(SYSTEM).pinned(ttl=0.05):
        wait_until(lambda: not remote._call("GET", "/cache/pins")["pins"])
        engine.with_cache(lambda cache: cache.available)  # what ran out is noticed when blocks are counted
        assert engine.stats().cache.leased == 0
    assert refused == [("DELETE", 404)]


def test_log_probabilities_are_the_same_here_and_there(llm, remote):
    prompt = list(b"some text that is scored")
    options = {"max_tokens": 5, "ignore_eos": True, "logprobs": 3, "prompt_logprobs": 2, "scored_from": 9}
    here, there = llm.submit(prompt, **options).result(), remote.submit(prompt, **options).result()
    assert there.tokens == here.tokens
    for theirs, ours in ((there.logprobs, here.logprobs), (there.prompt_logprobs, here.prompt_logprobs)):
        assert len(theirs) == len(ours) > 0
        for one, other in zip(theirs, ours, strict=True):
            assert one.token == other.token
            assert [token for token, _ in one.top] == [token for token, _ in other.top]
            assert one.logprob == pytest.approx(other.logprob, abs=1e-6)
            assert [value for _, value in one.top] == pytest.approx([value for _, value in other.top], abs=1e-6)


def test_a_selection_there_computes_its_options_alone(remote, engine):
    s = State(remote).system(SYSTEM).user("Grade?")
    s.prefill().result()
    gen = s.select(["good", "bad"])
    assert gen.result() in ("good", "bad")
    assert gen.usage.prefilled_tokens <= 24
    assert gen.usage.cached_tokens > len(SYSTEM)


def test_forced_tokens_are_known_and_a_form_ends_in_time(llm, remote):
    options = {"grammar": stemma.Regex("(abc){50}d*"), "max_tokens": 160, "finish_in_time": True}
    here, there = llm.submit([1], **options).result(), remote.submit([1], **options).result()
    assert there.text == here.text
    assert there.jumped == here.jumped
    assert len(there.jumped) > 100


def test_a_full_server_is_asked_again(loaded):
    with (
        stemma.Engine.of(loaded, kv_tokens=4096, max_running=1, max_batch_tokens=64) as engine,
        live_server(engine, ServerConfig(max_queue=0, shutdown_seconds=1)) as live,
        stemma.connect(live.url) as patient,
        stemma.connect(live.url, patience=0) as hasty,
    ):
        gens = [patient.submit([1, 2, number], max_tokens=30, ignore_eos=True) for number in range(3)]
        wait_until(lambda: engine.stats().num_running == 1)
        with pytest.raises(RemoteError) as refused:
            hasty.submit([1], max_tokens=1).result()
        assert refused.value.status == 429
        assert [len(gen.result().tokens) for gen in gens] == [30, 30, 30]
        assert live.server._service.limiter.num_refused > 1


def test_what_a_server_refuses_names_the_parameter(remote):
    with pytest.raises(InvalidRequest) as refused:
        State(remote).user("x").gen(max_tokens=10**6).result()
    assert refused.value.param == "max_tokens"


@pytest.mark.parametrize("options", [{"no_option": 1}, {"grammar": FreeText()}])
def test_what_cannot_be_sent_is_refused_here(remote, options):
    with pytest.raises(InvalidRequest):
        remote.submit([1, 2], **options)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RemoteError, match="cannot be reached"):
        stemma.connect(url)


def test_a_request_cancelled_before_it_began_ends(remote):
    generations = [remote.submit([1, 2, 3], max_tokens=2000, ignore_eos=True) for _ in range(20)]
    for generation in generations:
        generation.cancel()
    for generation in generations:
        completion = generation.result(timeout=20)
        assert completion.finish_reason == "abort"
        assert "".join(delta.text for delta in generation) == completion.text


def test_separators_of_lines_arrive(remote):
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\r\nh"
    generation = remote.submit(list(b"say"), grammar=Regex(re.escape(text)), max_tokens=40)
    assert "".join(delta.text for delta in generation) == text == generation.result().text


def test_a_connection_that_is_dropped_ends_its_thread_when_its_requests_have(live):
    remote = stemma.connect(live.url)
    thread = remote._thread._thread
    generation = remote.submit([1, 2, 3], max_tokens=8)
    del remote
    assert len(generation.result().tokens) == 8
    thread.join(30)
    assert not thread.is_alive()
