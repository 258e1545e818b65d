"""A soak: a real server on a tiny model under clients that ask for everything at random, leave when they like, and
break things inside. Nothing may be lost: each answer is whole, or an error in the API's shape.

    python benchmarks/soak.py [--minutes 60] [--clients 64] [--faults 0.02] [--seed 0]

Endpoints: chat, completions, responses, /generate; whole and streamed; n, log-probabilities, stops, penalties;
regexes, schemas, choices, grammars, tools. A part of the requests is left in the middle, and a part has a fault
thrown into its matcher, its text or its sampling. Prints a table; exits with 1 and the first findings if anything was
lost, memory grew after warming up, or a block is not accounted for in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from soak_answers import joined, reasons_of, schema_of, texts_of

from stemma.fsm.matching.matcher import Matcher
from stemma.kernels.select import select_ops
from stemma.runtime.core import sampler as sampling_steps
from stemma.runtime.engine import Engine
from stemma.runtime.engine.text import TextStream
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig, make_server

NUM_SAMPLES = 11
WARM_UP = NUM_SAMPLES // 3
"""Samples of the memory that may still grow: compiled grammars and remembered turns are kept up to a number."""
TURN_BYTES = 1 << 20
"""For remembered turns, and for answers that are kept: so few that they are full before the memory is compared."""
MAX_GROWTH = 0.10
"""Of the memory after warming up."""
PATIENCE = 120.0
"""Seconds without an answer after which a request counts as lost."""
KINDS = ("chat", "completions", "responses", "generate")
WORDS = ["cat", "dog", "sun", "Привет", "日本", "list:", '{"a": 1}', "the quick brown fox", "🙂", "x = "]


class Injected(Exception): ...


class Faults:
    """Throws into calls that are made for one sequence, by chance. Lives here: the product knows nothing of it."""

    PLACES = ((Matcher, "mask_into"), (Matcher, "advance"), (Matcher, "forced"), (Matcher, "shortest_completion"),
              (TextStream, "push"), (TextStream, "take"), (TextStream, "finish"),
              (sampling_steps, "places_of"), (sampling_steps, "_prompt_logprobs"),
              (sampling_steps, "uniform"))  # fmt: skip

    def __init__(self, share: float, chance: random.Random) -> None:
        self.share = share / 20  # of the calls: a request makes some twenty to each place
        self.chance = chance
        self.num_thrown = 0

    @contextmanager
    def thrown(self) -> Iterator[None]:
        real = [(owner, name, getattr(owner, name)) for owner, name in self.PLACES]
        for owner, name, function in real:
            setattr(owner, name, self._faulty(function, name))
        try:
            yield
        finally:
            for owner, name, function in real:
                setattr(owner, name, function)

    def _faulty(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self.chance.random() < self.share:
                self.num_thrown += 1
                raise Injected(name)
            return function(*args, **options)

        return call


@dataclass
class Tally:
    """What became of the requests, and what was wrong."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    num_compared: int = 0

    def note(self, kind: str, outcome: str) -> None:
        self.outcomes[kind, outcome] += 1

    def blame(self, what: str, body: dict[str, Any], said: object) -> None:
        self.wrong.append(
            f"{what}\n    asked {json.dumps(body, ensure_ascii=False)[:600]}\n    said  {str(said)[:600]}"
        )


class Asker:
    """One client: makes requests at random and looks at what comes back."""

    def __init__(self, url: str, seed: int, tally: Tally) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE)
        self.chance = random.Random(seed)
        self.tally = tally

    async def run(self, until: float) -> None:
        async with self.http:
            while time.monotonic() < until:
                kind = self.chance.choice(KINDS)
                path, body = getattr(self, f"_{kind}")()
                try:
                    await self._ask(kind, path, body)
                except httpx.HTTPError as error:
                    self.tally.blame(f"{kind}: {error!r}", body, "")

    # What to ask ----------------------------------------------------------------
    def _text(self) -> str:
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(1, 12)))

    def _options(self) -> dict[str, Any]:
        """Options that all endpoints spell alike; always with a seed, so that the same is asked twice."""
        chance = self.chance
        given: dict[str, Any] = {"temperature": chance.choice([0, 0.7, 1.3])}
        for name, value in (
            ("top_p", 0.9), ("top_k", 20), ("min_p", 0.02), ("frequency_penalty", 0.5), ("repetition_penalty", 1.1),
            ("stop", chance.sample(["a", "}", "xy", "но", "\n"], 2)), ("logit_bias", {"65": 5}), ("ignore_eos", True),
        ):  # fmt: skip
            if chance.random() < 0.2:
                given[name] = value
        return given

    def _regex(self) -> str:
        chance = self.chance
        low, high = sorted(chance.choices(range(40), k=2))
        patterns = (
            f"[a-z]{{{low},{high}}}", r"\d{4}-\d{2}-\d{2}", "hello world", "(yes|no|maybe)", f"(да|нет)!{{0,{high}}}",
            r"[^\n]*\n",
        )  # fmt: skip
        return chance.choice(patterns)

    def _schema(self) -> dict[str, Any]:
        chance = self.chance
        names = [f"{chance.choice(WORDS[:3])}{index}" for index in range(chance.randint(1, 4))]
        kinds: list[dict[str, Any]] = [
            {"type": "integer"}, {"type": "string", "maxLength": chance.randint(1, 20)}, {"type": "boolean"},
            {"enum": ["red", "green", "красный"]}, {"type": "array", "items": {"type": "number"}, "maxItems": 3},
        ]  # fmt: skip
        return {"type": "object", "properties": {name: chance.choice(kinds) for name in names}, "required": names,
                "additionalProperties": False}  # fmt: skip

    def _form(self) -> dict[str, Any]:
        """For chat and completions."""
        draw = self.chance.random()
        if draw < 0.35:
            return {}
        if draw < 0.6:
            return {"regex": self._regex()}
        if draw < 0.8:
            return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": self._schema()}}}
        if draw < 0.9:
            return {"structured_outputs": {"choice": self.chance.sample(WORDS, 3)}}
        return {"grammar": 'root ::= "a" root "b" | "ab" | [0-9]+'}

    def _length(self) -> int:
        return self.chance.choice([1, 2, 8, 30, 60])

    def _openai(self) -> dict[str, Any]:
        chance = self.chance
        return {**self._options(), **self._form(), "max_tokens": self._length(), "seed": chance.randint(0, 9),
                "n": chance.choice([1, 1, 1, 2, 3]), "stream": chance.random() < 0.5}  # fmt: skip

    def _chat(self) -> tuple[str, dict[str, Any]]:
        body = {"messages": [{"role": "user", "content": self._text()}], **self._openai()}
        if self.chance.random() < 0.2:
            body |= {"logprobs": True, "top_logprobs": 2}
        if self.chance.random() < 0.2 and not {"regex", "response_format", "structured_outputs", "grammar"} & set(body):
            function = {"name": "find", "parameters": self._schema()}
            body |= {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
        return "/v1/chat/completions", body

    def _completions(self) -> tuple[str, dict[str, Any]]:
        body = {"prompt": self._text(), **self._openai()}
        if self.chance.random() < 0.2:
            body |= {"logprobs": 2, "echo": self.chance.random() < 0.5}
        return "/v1/completions", body

    def _responses(self) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"input": self._text(), "max_output_tokens": self._length(),
                                "temperature": 0, "stream": self.chance.random() < 0.5}  # fmt: skip
        if self.chance.random() < 0.3:
            body["text"] = {"format": {"type": "json_schema", "name": "s", "schema": self._schema()}}
        return "/v1/responses", body

    def _generate(self) -> tuple[str, dict[str, Any]]:
        sampling = {**self._options(), "max_new_tokens": self._length(), "sampling_seed": self.chance.randint(0, 9)}
        draw = self.chance.random()
        if draw < 0.3:
            sampling["regex"] = self._regex()
        elif draw < 0.5:
            sampling["json_schema"] = self._schema()
        body = {"text": self._text(), "sampling_params": sampling, "stream": self.chance.random() < 0.5}
        if self.chance.random() < 0.2:
            body |= {"return_logprob": True, "top_logprobs_num": 1}
        return "/generate", body

    # What comes back ----------------------------------------------------------------
    async def _ask(self, kind: str, path: str, body: dict[str, Any]) -> None:
        if self.chance.random() < 0.15:
            await self._leave(kind, path, body)
            return
        said = await (self._stream(kind, path, body) if body["stream"] else self._whole(kind, path, body))
        if said is None or self.chance.random() > 0.3:
            return
        other = {**body, "stream": not body["stream"]}
        again = await (self._stream(kind, path, other) if other["stream"] else self._whole(kind, path, other))
        if again is not None:
            self.tally.num_compared += 1
            if again != said:
                self.tally.blame(f"{kind}: a stream and a whole answer differ: {said!r}, {again!r}", other, again)

    async def _leave(self, kind: str, path: str, body: dict[str, Any]) -> None:
        """Ask, and be gone at some moment."""
        seconds = self.chance.choice([0.0, 0.01, 0.05, 0.3])
        with_end = asyncio.wait_for(self.http.post(path, json=body), seconds)
        try:
            await with_end
        except TimeoutError:
            self.tally.note(kind, "left")
        else:
            self.tally.note(kind, "answered before it was left")

    async def _whole(self, kind: str, path: str, body: dict[str, Any]) -> list[str] | None:
        answer = await self.http.post(path, json=body)
        try:
            said = answer.json()
        except ValueError:
            self.tally.blame(f"{kind}: no JSON, status {answer.status_code}", body, answer.text)
            return None
        if answer.status_code != 200:
            await self._look_at_error(kind, answer.status_code, said, body)
            return None
        self.tally.note(kind, "whole")
        texts = texts_of(kind, said)
        if len(texts) != body.get("n", 1):
            self.tally.blame(f"{kind}: {len(texts)} answers", body, said)
        self._look_at_texts(kind, body, texts, reasons_of(kind, said), said)
        return texts

    async def _stream(self, kind: str, path: str, body: dict[str, Any]) -> list[str] | None:
        async with self.http.stream("POST", path, json=body) as answer:
            data = await answer.aread()
            if answer.status_code != 200:
                await self._look_at_error(kind, answer.status_code, json.loads(data), body)
                return None
        events = [line[6:] for line in data.decode().splitlines() if line.startswith("data: ")]
        if kind != "responses" and (not events or events.pop() != "[DONE]"):
            self.tally.blame(f"{kind}: a stream without [DONE]", body, data[-300:])
            return None
        said = [json.loads(each) for each in events if each != "[DONE]"]
        failures = [each for each in said if "error" in each or each.get("type") == "response.failed"]
        if failures:
            error = failures[-1]
            await self._look_at_error(kind, 200, error.get("response", error), body)
            return None
        self.tally.note(kind, "streamed")
        texts = joined(kind, said, body.get("n", 1))
        if texts is None:
            self.tally.blame(f"{kind}: a stream without its end", body, said[-1:])
        return texts

    async def _look_at_error(self, kind: str, status: int, said: Any, body: dict[str, Any]) -> None:
        error = said.get("error") if isinstance(said, dict) else None
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            self.tally.blame(f"{kind}: an error in another shape, status {status}", body, said)
        elif "Injected" in error["message"]:
            self.tally.note(kind, "fault told")
        elif status == 429:
            self.tally.note(kind, "429")
            await asyncio.sleep(self.chance.random())
        elif status == 400 and "has no tools" not in error["message"]:
            self.tally.note(kind, f"400 {error.get('param')}")
        else:
            self.tally.blame(f"{kind}: status {status}", body, said)

    def _look_at_texts(self, kind: str, body: dict[str, Any], texts: list[str], reasons: list[Any], said: Any) -> None:
        """Outputs that ended by their form are of it."""
        sampling = body.get("sampling_params", body)
        if "stop" in sampling or body.get("echo") or "tools" in body:
            return
        schema = schema_of(sampling)
        for text, reason in zip(texts, reasons, strict=True):
            if reason != "stop":
                continue
            if "regex" in sampling and not re.fullmatch(sampling["regex"], text):
                self.tally.blame(f"{kind}: {text!r} is not of its regex", body, said)
            if schema and set(json.loads(text)) != set(schema["required"]):
                self.tally.blame(f"{kind}: {text!r} is not of its schema", body, said)


# The server, and what is left when all have gone ----------------------------------------------------------------
@contextmanager
def serving(engine: Engine) -> Iterator[tuple[str, Any]]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = make_server(
        engine, ServerConfig(shutdown_seconds=5, turn_memory_bytes=TURN_BYTES, max_state_bytes=TURN_BYTES)
    )
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", server._service
    finally:
        server.stop()
        thread.join(30)


def resident_bytes() -> int:
    gc.collect()
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


async def load(url: str, arguments: argparse.Namespace, tally: Tally) -> list[int]:
    """Run the clients. Returns the memory at equal times, the last one when all have ended."""
    seconds = 60 * arguments.minutes
    until = time.monotonic() + seconds
    askers = [Asker(url, arguments.seed * 1000 + index, tally) for index in range(arguments.clients)]
    tasks = [asyncio.create_task(asker.run(until)) for asker in askers]
    memory = []
    for _ in range(NUM_SAMPLES):
        await asyncio.sleep(seconds / (NUM_SAMPLES + 1))
        memory.append(resident_bytes())
    await asyncio.gather(*tasks)
    return [*memory, resident_bytes()]


def left_behind(engine: Engine, service: Any) -> list[str]:
    """What is not as it was before the first request came."""
    deadline = time.monotonic() + 30
    while (stats := engine.stats()).num_running + stats.num_waiting and time.monotonic() < deadline:
        time.sleep(0.05)
    engine.with_cache(lambda cache: cache.check())
    counts = {
        "sequences": stats.num_running + stats.num_waiting,
        "leased blocks": stats.cache.leased,
        "lost blocks": stats.cache.total - stats.cache.free - stats.cache.leased - stats.cache.cached,
        "states": len(engine._loop._states),
        "places at the limiter": service.limiter.num_inside,
        "open requests": service.counts.num_open,
    }
    return [f"{count} {name} left behind" for name, count in counts.items() if count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--faults", type=float, default=0.02, help="share of the requests with a fault thrown in")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tally = Tally()
    faults = Faults(arguments.faults, random.Random(arguments.seed))
    with Engine.of(tiny(select_ops()), kv_tokens=16384, max_running=32) as engine, serving(engine) as (url, service):
        with faults.thrown():
            memory = asyncio.run(load(url, arguments, tally))
        wrong = [*tally.wrong, *left_behind(engine, service)]
        if httpx.get(f"{url}/health").status_code != 200:
            wrong.append("the server is not healthy")
        usage = engine.stats().metrics.usage
    warm, end = memory[WARM_UP], memory[-1]
    if end > warm * (1 + MAX_GROWTH):
        wrong.append(f"memory grew from {warm >> 20} to {end >> 20} MiB after warming up")
    outcomes = sorted({outcome for _, outcome in tally.outcomes})
    print(f"{'':28}" + "".join(f"{kind:>13}" for kind in KINDS))
    for outcome in outcomes:
        print(f"{outcome:28}" + "".join(f"{tally.outcomes[kind, outcome]:13}" for kind in KINDS))
    print(f"\n{sum(tally.outcomes.values())} requests in {arguments.minutes} min, {faults.num_thrown} faults thrown, "
          f"{tally.num_compared} streams compared with whole answers, {usage.completion_tokens} tokens generated, "
          f"memory in MiB: {' '.join(str(each >> 20) for each in memory)}")  # fmt: skip
    for each in wrong[:20]:
        print(f"\nWRONG: {each}")
    print(f"\n{len(wrong)} things wrong" if wrong else "\nnothing lost")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
