"""Other people's clients; each test is left out where its client is not installed (`pip install -e '.[contract]'`).

Forms are asserted, not sense: the model has 135 million parameters.
"""

from __future__ import annotations

from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.contract.conftest import Served


class City(BaseModel):
    name: Literal["Paris", "Rome", "Berlin"]
    size: Literal["small", "large"]


ASK: Any = [{"role": "user", "content": "A city in France"}]


def greedy(served: Served, messages: Any, max_tokens: int) -> str | None:
    """What the model says, as OpenAI's own client hears it."""
    client = openai.OpenAI(base_url=served.base, api_key=served.key)
    asked: Any = {"model": served.model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    return client.chat.completions.create(**asked).choices[0].message.content


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA", "JSON"])
def test_instructor(served: Served, mode: str) -> None:
    instructor = pytest.importorskip("instructor")
    client = instructor.from_openai(openai.OpenAI(base_url=served.base, api_key=served.key), mode=instructor.Mode[mode])
    asked: Any = {"model": served.model, "messages": ASK, "response_model": City, "max_retries": 0}
    whole = client.chat.completions.create(**asked, temperature=0)
    assert isinstance(whole, City)
    parts = list(client.chat.completions.create_partial(**asked, temperature=0))
    assert City.model_validate(parts[-1].model_dump())
    if mode != "TOOLS":  # there, a stream asks for another function, PartialCity, and a model may answer it otherwise
        assert parts[-1].model_dump() == whole.model_dump()


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("output", ["tool", "native"])
def test_pydantic_ai(served: Served, api: str, output: str) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=served.base, api_key=served.key)
    model = (OpenAIResponsesModel if api == "responses" else OpenAIChatModel)(served.model, provider=provider)
    agent = pydantic_ai.Agent(model, output_type=City if output == "tool" else pydantic_ai.NativeOutput(City))
    before = served.engine.stats().metrics.usage.completion_tokens
    result = agent.run_sync("A city in France")
    assert isinstance(result.output, City)
    assert result.usage.output_tokens == served.engine.stats().metrics.usage.completion_tokens - before


async def test_pydantic_ai_goes_on_from_what_is_kept(served: Served) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
    from pydantic_ai.providers.openai import OpenAIProvider

    client = openai.AsyncOpenAI(base_url=served.base, api_key=served.key)
    model = OpenAIResponsesModel(served.model, provider=OpenAIProvider(openai_client=client))
    agent = pydantic_ai.Agent(model)
    short = OpenAIResponsesModelSettings(max_tokens=8)
    first = await agent.run("one", model_settings=short)
    second = await agent.run(
        "two", message_history=first.all_messages(), model_settings={**short, "openai_previous_response_id": "auto"}
    )
    assert second.usage.cache_read_tokens >= first.usage.input_tokens + first.usage.output_tokens - 1
    last = second.all_messages()[-1].provider_response_id
    items = [item async for item in client.responses.input_items.list(last, order="asc")]
    assert len(items) == 3


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_openai(served: Served, method: str) -> None:
    langchain = pytest.importorskip("langchain_openai")
    model = langchain.ChatOpenAI(model=served.model, base_url=served.base, api_key=served.key, max_tokens=60)
    assert isinstance(model.with_structured_output(City, method=method).invoke("A city"), City)
    short = model.bind(max_tokens=5, temperature=0)
    whole = short.invoke("hi")
    assert whole.usage_metadata["output_tokens"] <= 5
    assert "".join(chunk.content for chunk in short.stream("hi")) == whole.content
    assert whole.content == greedy(served, [{"role": "user", "content": "hi"}], 5)


def test_litellm(served: Served) -> None:
    litellm = pytest.importorskip("litellm")
    asked: Any = {"model": f"openai/{served.model}", "api_base": served.base, "api_key": served.key, "messages": ASK}
    short = {**asked, "max_tokens": 5, "temperature": 0}
    said = greedy(served, ASK, 5)
    assert litellm.completion(**short).choices[0].message.content == said
    chunks = litellm.completion(**short, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said
    answer = litellm.completion(**asked, response_format=City)
    assert City.model_validate_json(answer.choices[0].message.content)
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**{**asked, "messages": [{"role": "user", "content": "word " * 9000}]})


def test_dspy(served: Served) -> None:
    dspy = pytest.importorskip("dspy")
    where: Any = {"api_base": served.base, "api_key": served.key, "cache": False}
    model = dspy.LM(f"openai/{served.model}", **where, max_tokens=8, temperature=0)
    question = "What is the capital of France?"
    (answer,) = model(question)
    assert answer == greedy(served, [{"role": "user", "content": question}], 8)


def test_dspy_with_json(served: Served) -> None:
    """DSPy asks for JSON only of models that it knows to be able to; of others it hopes for the best."""
    dspy = pytest.importorskip("dspy")
    litellm = pytest.importorskip("litellm")
    name = f"openai/{served.model}"
    litellm.register_model({name: {"litellm_provider": "openai", "mode": "chat", "supports_response_schema": True}})

    class Mood(dspy.Signature):  # type: ignore[misc]
        """The mood of a text."""

        text: str = dspy.InputField()
        mood: Literal["good", "bad"] = dspy.OutputField()

    model = dspy.LM(name, api_base=served.base, api_key=served.key, max_tokens=60, cache=False, engine="litellm")
    with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
        assert dspy.Predict(Mood)(text="I love it").mood in ("good", "bad")


def test_lm_eval_scores_as_the_engine_does(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """`local-completions` over HTTP, and the engine's own scores of the same tokens."""
    pytest.importorskip("lm_eval")
    api = pytest.importorskip("lm_eval.models.openai_completions")
    from lm_eval.api.instance import Instance

    monkeypatch.setenv("OPENAI_API_KEY", served.key)

    scorer = api.LocalCompletionsAPI(
        model=served.model, base_url=f"{served.base}/completions", tokenizer_backend="remote", auth_token=served.key,
        num_concurrent=1, batch_size=2,
    )  # fmt: skip
    pairs = [("The capital of France is", " Paris"), ("Two plus two is", " four"), ("The sky is", " green")]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    tokenizer = served.engine.loaded.tokenizer
    for (context, ending), (score, _) in zip(pairs, scorer.loglikelihood(requests), strict=True):
        start = len(tokenizer.encode_prompt(context))
        whole = served.engine.generate(context + ending, max_tokens=0, prompt_logprobs=0)
        expected = sum(entry.logprob for entry in whole.prompt_logprobs[start - 1 :])
        assert score == pytest.approx(expected, abs=1e-3)
