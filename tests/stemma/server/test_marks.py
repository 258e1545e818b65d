"""What the server says of a model with windows: where one can go on in its tree, and what is computed again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.server import ServerConfig
from stemma.terminal.remote import show_explanation
from stemma.terminal.tree import draw, of_report
from tests.runtime.engine.marked import marked

BEGINNING = "a system prompt, longer than any window; "


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine.of(marked(ReferenceOps(torch.device("cpu")), "window"), kv_tokens=4096, block_size=4) as made:
        yield made


@pytest.fixture
async def client(engine: Engine, serve_with: Any) -> AsyncIterator[Any]:
    async with serve_with(engine, ServerConfig()) as made:
        yield made


async def complete(client: Any, prompt: str) -> Any:
    return await client.post("/v1/completions", prompt=prompt, max_tokens=2, temperature=0)


async def test_what_is_replayed_is_told_apart(client: Any) -> None:
    counts = []
    for end in ("1 one", "2 two", "3 three"):
        usage = (await complete(client, BEGINNING + end))["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == usage["stemma"]["cached_tokens"]
        counts.append(usage["stemma"]["cached_tokens"] + usage["stemma"]["replayed_tokens"])
        assert counts[-1] + usage["stemma"]["prefilled_tokens"] == usage["prompt_tokens"]
    assert counts == [0, len(BEGINNING), len(BEGINNING)]
    assert usage["stemma"]["replayed_tokens"] == 0
    metrics = (await client.http.get("/metrics")).text
    assert 'stemma_window_blocks{state="leased"} 0.0' in metrics
    assert "stemma_replayed_tokens_total" in metrics
    assert "stemma_state_slots" not in metrics, "it has no states"


async def test_why_a_hit_ends_at_a_mark(client: Any) -> None:
    await complete(client, BEGINNING + "1 one")
    said = await client.post("/cache/explain", prompt=BEGINNING + "2 two")
    assert (said["hit_len"], said["match_len"]) == (0, len(BEGINNING))
    assert said["marks"] == [len(BEGINNING) + 4], "the nearest one is behind the end of the match"
    shown = "".join(str(part) for part in show_explanation(said).renderables)
    assert f"no mark between 0 and {len(BEGINNING)}: {len(BEGINNING)} are computed again" in shown


async def test_the_tree_shows_its_marks(client: Any) -> None:
    await complete(client, BEGINNING + "1 one")
    await complete(client, BEGINNING + "2 two")
    report = await client.get("/cache/tree")
    top = next(node for node in report["nodes"] if node["parent"] is None)
    assert len(BEGINNING) in top["marks"]
    assert all(
        node["start"] < place <= node["start"] + node["tokens"] for node in report["nodes"] for place in node["marks"]
    )
    assert report["counters"]["marks"] == sum(len(node["marks"]) for node in report["nodes"])
    drawn = "".join(str(child.label) for child in draw(of_report(report)).children[0].children)
    assert f"marks at {len(BEGINNING)}" in drawn
    listed = await client.get("/cache/tree?tokens=true")
    assert sorted(place for node in listed["nodes"] for place in node["marks"]) == sorted(
        place for node in report["nodes"] for place in node["marks"]
    )


async def test_what_is_warm_or_pinned_is_gone_on_with_to_the_token(client: Any) -> None:
    for path, text in (("/cache/warm", "one text to be used a lot"), ("/cache/pin", "another that has to stay")):
        await client.post(path, prompt=text)
        usage = (await complete(client, text + "!"))["usage"]["stemma"]
        assert (usage["cached_tokens"], usage["replayed_tokens"]) == (len(text), 0)
    for pin in (await client.get("/cache/pins"))["pins"]:
        await client.http.delete(f"/cache/pins/{pin['id']}")


async def test_another_chat_goes_on_behind_the_system_message(client: Any) -> None:
    system = {"role": "system", "content": "You answer in one word, whatever is asked."}
    usages = []
    for question in ("one?", "another, longer?"):
        messages = [system, {"role": "user", "content": question}]
        answer = await client.post("/v1/chat/completions", messages=messages, max_tokens=3)
        usages.append(answer["usage"]["stemma"])
    assert usages[1]["cached_tokens"] > len(system["content"])
    assert usages[1]["replayed_tokens"] == 0


async def test_a_chat_goes_on_from_its_last_answer(client: Any) -> None:
    messages = [{"role": "user", "content": "a question that is long enough to matter"}]
    first = await client.post("/v1/chat/completions", messages=messages, max_tokens=12)
    said = first["choices"][0]["message"]["content"]
    again = [*messages, {"role": "assistant", "content": said}, {"role": "user", "content": "and?"}]
    usage = (await client.post("/v1/chat/completions", messages=again, max_tokens=3))["usage"]["stemma"]
    assert usage["cached_tokens"] >= first["usage"]["prompt_tokens"]
    assert usage["replayed_tokens"] == 0


async def test_a_message_leaves_marks_at_its_breakpoints(client: Any) -> None:
    blocks = [
        {"type": "text", "text": "a document of many words", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": " and a question"},
    ]
    usages = []
    for end in (" and a question", " but another one"):
        blocks[1] = {"type": "text", "text": end}
        body = {"model": "tiny-gpt_oss", "max_tokens": 3, "messages": [{"role": "user", "content": blocks}]}
        usages.append((await client.post("/v1/messages", **body))["usage"])
    assert usages[1]["cache_read_input_tokens"] >= len(blocks[0]["text"])
