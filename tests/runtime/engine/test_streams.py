"""Many requests under way on one engine: however each is heard and ends, its deltas joined are its completion."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stemma.fsm.choices import Choices
from stemma.fsm.ebnf import EBNF
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.regex import Regex
from stemma.runtime.engine import Delta, Engine, Generation
from stemma.runtime.engine.generation import join

POINT = (
    '{"type": "object", "properties": {"ä": {"enum": ["bé", "b😀", 7]}, "n": {"type": "integer"}}, "required": ["ä"]}'
)
FORMS = [
    None, None, Regex("hello wörld"), Regex("[ab]{1,4}(lich|lein)é?"), Regex("(añb|añc|x😀)*"), Regex(""),
    Choices(("only",)), Choices(("yes", "yés", "no")), JSONSchema(POINT), JSONSchema('{"const": [{"a": "ü"}]}'),
    EBNF('root ::= "(" root ")" | "é"'),
]  # fmt: skip
STOPS = ["o", "lö", "ñb", "é", "}", '":', "\ufffd", "liche", "(((", "x", "b😀"]
OPTIONS = st.fixed_dictionaries({
    "max_tokens": st.integers(0, 24),
    "stop": st.lists(st.sampled_from(STOPS), max_size=3),
    "stop_token_ids": st.lists(st.sampled_from([ord("l"), 0xC3, 256]), max_size=1),
    "seed": st.integers(0, 5),
    "temperature": st.sampled_from([0.0, 1.0]),
    "logprobs": st.sampled_from([None, None, 0, 2]),
    "prompt_logprobs": st.sampled_from([None, None, 1]),
    "ignore_eos": st.booleans(),
    "repetition_penalty": st.sampled_from([1.0, 1.3]),
})  # fmt: skip
PROMPTS = st.sampled_from(["Say é: ", "Say é: and more, so that it is some blocks", "x"])


class Heard:
    """A request, and what was heard of it."""

    def __init__(self, generation: Generation, asked: dict[str, Any]) -> None:
        self.generation = generation
        self.asked = asked
        self.deltas: list[Delta] = []
        self.iterator = iter(generation)

    def listen(self) -> bool:
        delta = next(self.iterator, None)
        if delta is not None:
            assert any(delta), "nothing is said for nothing"
            self.deltas.append(delta)
        return delta is not None


class Streams(RuleBasedStateMachine):
    """Requests come, are listened to, left and aborted, while others go on."""

    loaded: Any

    @initialize(pool=st.sampled_from([112, 4096]), chunk=st.sampled_from([5, 64]), jump=st.booleans())
    def begin(self, pool: int, chunk: int, jump: bool) -> None:
        self.engine = Engine.of(self.loaded, kv_tokens=pool, block_size=4, max_chunk=chunk, jump_forward=jump)
        self.alone = Engine.of(self.loaded, kv_tokens=4096, prefix_cache=False, jump_forward=jump)
        self.open: list[Heard] = []

    @rule(prompt=PROMPTS, form=st.sampled_from(FORMS), options=OPTIONS, in_time=st.booleans(), n=st.integers(1, 3))
    def submit(self, prompt: str, form: Any, options: dict[str, Any], in_time: bool, n: int) -> None:
        asked = {**options, "grammar": form, "finish_in_time": in_time and options["logprobs"] is None}
        for index, generation in enumerate(self.engine.submit_samples(prompt, n, **asked)):
            self.open.append(Heard(generation, {**asked, "prompt": prompt, "seed": asked["seed"] + index}))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), times=st.integers(1, 3))
    def listen(self, data: st.DataObject, times: int) -> None:
        heard = data.draw(st.sampled_from(self.open))
        for _ in range(times):
            heard.listen()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open)).generation.cancel()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """The iteration ends, and another one hears the rest."""
        heard = data.draw(st.sampled_from(self.open))
        heard.iterator.close()  # type: ignore[attr-defined]
        heard.iterator = iter(heard.generation)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        heard = data.draw(st.sampled_from(self.open))
        while heard.listen():
            pass
        self.check(heard)

    @precondition(lambda self: self.open)
    @rule()
    def finish_in_asyncio(self) -> None:
        async def listen(heard: Heard) -> None:
            heard.deltas += [delta async for delta in heard.generation]

        async def listen_to_all() -> None:
            await asyncio.gather(*map(listen, self.open))

        asyncio.run(listen_to_all())
        for heard in list(self.open):
            self.check(heard)

    def check(self, heard: Heard) -> None:
        self.open.remove(heard)
        completion, joined = heard.generation.result(), join(heard.deltas)
        assert joined == (completion.text, completion.tokens, completion.logprobs, completion.prompt_logprobs)
        usage = completion.usage
        assert usage.completion_tokens == len(completion.tokens) == usage.decoded_tokens + usage.jumped_tokens
        assert len(completion.logprobs) == (0 if heard.asked["logprobs"] is None else len(completion.tokens))
        assert not any(stop in completion.text for stop in heard.asked["stop"] if "\ufffd" not in stop)
        if completion.finish_reason != "abort":
            again = self.alone.generate(**heard.asked)
            assert again.text == completion.text
            assert again.tokens == completion.tokens
            assert (again.finish_reason, again.stopped_by) == (completion.finish_reason, completion.stopped_by)

    @invariant()
    def blocks_are_accounted_for(self) -> None:
        if hasattr(self, "engine"):
            self.engine.with_cache(lambda cache: cache.check())

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            while self.open:
                while self.open[0].listen():
                    pass
                self.check(self.open[0])
            stats = self.engine.stats()
            assert stats.cache.leased == stats.num_running == stats.num_waiting == 0
            self.engine.close()
            self.alone.close()


def test_deltas_joined_are_the_completion(tiny_loaded: Any) -> None:
    class Machine(Streams):
        loaded = tiny_loaded

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=18, stateful_step_count=12, deadline=None, suppress_health_check=checks)
    )
