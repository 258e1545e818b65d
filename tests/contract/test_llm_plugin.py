"""Simon Willison's `llm` with our plugin, in this process and on a server; left out where `llm` is not installed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

llm = pytest.importorskip("llm", reason="llm is not installed")
pytest.importorskip("llm.parts", reason="this llm is too old")

from stemma.runtime.engine import Engine  # noqa: E402
from tests.stemma.server.live import live_server  # noqa: E402

SCHEMA = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]}


def weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(kv_tokens=8192) as made:
        yield made


@pytest.fixture(scope="module", params=["here", "there"])
def place(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Any]:
    from stemma.llm_plugin import Place

    if request.param == "here":
        yield Place("here", lambda: engine)
        return
    import stemma

    with live_server(engine) as live, stemma.connect(live.url) as remote:
        yield Place("there", lambda: remote)


def test_a_prompt_a_schema_and_a_conversation(place: Any) -> None:
    from stemma.llm_plugin import StemmaModel

    model = StemmaModel(place)
    answer = model.prompt("What is the capital of France?", max_tokens=16)
    assert "France" in answer.text()
    assert answer.usage().output <= 16
    assert json.loads(model.prompt("Is Paris in France?", schema=SCHEMA).text())["answer"] in ("yes", "no")
    talk = model.conversation()
    talk.prompt("My name is Ada.", system="Be brief.", max_tokens=8).text()
    second = talk.prompt("What is my name?", max_tokens=8)
    second.text()
    assert second.usage().details["cached_tokens"] > 10


def test_tools(place: Any) -> None:
    from stemma.llm_plugin import StemmaModel

    model, calls = StemmaModel(place), []
    for seed in range(12):
        options = {"max_tokens": 100, "seed": seed, "temperature": 0.8}
        response = model.prompt("What is the weather in Paris? Call the tool.", tools=[weather], options=options)
        calls = response.tool_calls()
        if calls:
            break
    assert calls, "no seed made a call"
    assert calls[0].name == "weather"
    assert isinstance(calls[0].arguments["city"], str)
    results = response.execute_tool_calls()
    assert results[0].output.startswith("It is sunny in")
    after = response.reply(tool_results=results, options={"max_tokens": 12})
    after.text()
    assert after.usage().input > response.usage().input


def test_asyncio(place: Any) -> None:
    from stemma.llm_plugin import AsyncStemmaModel, StemmaModel

    async def said() -> tuple[str, str]:
        model = AsyncStemmaModel(place)
        parts = [part async for part in model.prompt("Name a colour.", max_tokens=6, temperature=0)]
        form = await model.prompt("Is Paris in France?", schema=SCHEMA)
        return "".join(parts), await form.text()

    text, form = asyncio.run(said())
    assert text == StemmaModel(place).prompt("Name a colour.", max_tokens=6, temperature=0).text() != ""
    assert json.loads(form)["answer"] in ("yes", "no")


def test_vectors(place: Any, engine: Engine) -> None:
    from stemma.llm_plugin import StemmaEmbeddingModel

    model = StemmaEmbeddingModel(place)
    made = list(model.embed_multi(["one", "two", "three"], batch_size=2))
    wanted = [each.vector.tolist() for each in engine.embed(["one", "two", "three"])]
    for ours, theirs in zip(made, wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert model.embed("one") == pytest.approx(wanted[0], abs=1e-4)


def test_the_plugin_registers_its_models() -> None:
    from stemma import llm_plugin

    registered: list[Any] = []
    llm_plugin.register_models(lambda model, other, aliases=(): registered.append((model, other)))
    assert [model.model_id for model, _ in registered] == ["stemma/smollm2", "stemma/server"]
    assert all(model.model_id == other.model_id for model, other in registered)
    assert all(isinstance(model, llm.Model) and isinstance(other, llm.AsyncModel) for model, other in registered)
    embedding: list[Any] = []
    llm_plugin.register_embedding_models(lambda model, aliases=(): embedding.append(model.model_id))
    assert embedding == ["stemma/smollm2", "stemma/server"]
