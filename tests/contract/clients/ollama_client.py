"""Ollama's own client: chats, streams, calls of Python functions, schemas, vectors, models; and answers as its types
say. Called with the server's URL, a key and the model's name."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Literal

import httpx
import ollama
from pydantic import BaseModel

url, key, model = sys.argv[1:]
headers = {"authorization": f"Bearer {key}"}
client = ollama.Client(host=url, headers=headers)
ASK = [{"role": "user", "content": "Name a city in France."}]
SHORT = {"num_predict": 12, "temperature": 0}


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


def weather(city: str) -> str:
    """The weather in a city.

    Args:
      city: The city's name

    Returns:
      str: The weather
    """
    return f"sunny in {city}"


# Whole, streamed, by hand and by type.
whole = client.chat(model=model, messages=ASK, options=SHORT)
parts = list(client.chat(model=model, messages=ASK, options=SHORT, stream=True))
assert "".join(part.message.content for part in parts) == whole.message.content != ""
assert whole.done
assert parts[-1].done
assert parts[-1].eval_count == whole.eval_count <= 12
assert whole.total_duration > whole.eval_duration > 0
assert whole["message"]["role"] == "assistant"
city = client.chat(model=model, messages=ASK, format=City.model_json_schema())
assert City.model_validate_json(city.message.content)
assert isinstance(json.loads(client.chat(model=model, messages=ASK, format="json").message.content), dict)
scored = client.chat(model=model, messages=ASK, options=SHORT, logprobs=True, top_logprobs=2)
assert len(scored.logprobs) == scored.eval_count
assert len(scored.logprobs[0].top_logprobs) == 2

# A chat that comes back, with a call and its result.
called = None
for seed in range(12):
    asked = [{"role": "user", "content": "What is the weather in Paris? Call the tool."}]
    first = client.chat(model=model, messages=asked, tools=[weather], options={"seed": seed, "num_predict": 120})
    if first.message.tool_calls:
        called = first.message.tool_calls[0].function
        said = weather(**called.arguments)
        turn = [*asked, first.message, {"role": "tool", "tool_name": called.name, "content": said}]
        second = client.chat(model=model, messages=turn, tools=[weather], options=SHORT)
        assert second.prompt_eval_count > first.prompt_eval_count
        streamed = client.chat(
            model=model, messages=asked, tools=[weather], options={"seed": seed, "num_predict": 120}, stream=True
        )
        calls = [call for part in streamed for call in part.message.tool_calls or ()]
        assert [call.function for call in calls] == [call.function for call in first.message.tool_calls]
        break
assert called is not None, "no seed made a call"

# Texts.
text = client.generate(model=model, prompt="Once upon a time", raw=True, options=SHORT)
assert text.response
assert text.context is None
question = client.generate(model=model, prompt="Name a city in France.", system="Be brief.", options=SHORT)
more = client.generate(model=model, prompt="And in Italy?", context=question.context, options=SHORT)
assert more.context[: len(question.context)] == question.context
pieces = list(client.generate(model=model, prompt="Hello", options=SHORT, stream=True))
assert pieces[-1].done
assert "".join(piece.response for piece in pieces)
assert client.generate(model=model).done_reason == "load"

# Vectors and models.
vectors = client.embed(model=model, input=["one", "two"]).embeddings
assert len(vectors) == 2
assert abs(sum(value * value for value in vectors[0]) - 1) < 1e-4
assert len(client.embed(model=model, input="one", dimensions=8).embeddings[0]) == 8
assert len(client.embeddings(model=model, prompt="one").embedding) == len(vectors[0])
(listed,) = client.list().models
(running,) = client.ps().models
assert listed.model == running.model == f"{model}:latest"
assert client.chat(model=listed.model, messages=ASK, options=SHORT).message.content == whole.message.content
shown = client.show(model)
assert "completion" in shown.capabilities
assert "tools" in shown.capabilities
architecture = shown.modelinfo["general.architecture"]
assert shown.modelinfo[f"{architecture}.context_length"] == running.context_length > 0
assert client.pull(model).status == "success"
assert [step.status for step in client.pull(model, stream=True)][-1] == "success"
statuses = []
for refused in (lambda: client.chat("nobody", ASK), lambda: client.pull("nobody"), lambda: client.delete(model)):
    try:
        refused()
    except ollama.ResponseError as error:
        statuses.append((error.status_code, "{" in error.error))
assert statuses == [(404, False), (404, False), (400, False)]


# The same from asyncio.
async def beside() -> None:
    other = ollama.AsyncClient(host=url, headers=headers)
    answers = await asyncio.gather(*(other.chat(model=model, messages=ASK, options=SHORT) for _ in range(4)))
    assert {answer.message.content for answer in answers} == {whole.message.content}
    said = [part async for part in await other.chat(model=model, messages=ASK, options=SHORT, stream=True)]
    assert "".join(part.message.content for part in said) == whole.message.content


asyncio.run(beside())


# Every field is of the type that the package declares; those that it does not have are Ollama's own, or ours.
def check(kind: type[BaseModel], text: str, beside: set[str]) -> None:
    kind.model_validate_json(text, strict=True)
    names = {field.alias or name for name, field in kind.model_fields.items()}
    unknown = set(json.loads(text)) - names - beside
    assert not unknown, (kind, unknown)


http = httpx.Client(base_url=url, headers=headers, timeout=60)
body = {"model": model, "messages": ASK, "options": SHORT, "logprobs": True, "top_logprobs": 1, "tools": []}
check(ollama.ChatResponse, http.post("/api/chat", json={**body, "stream": False}).text, {"stemma"})
lines = http.post("/api/chat", json=body).text.splitlines()
for line in lines:
    check(ollama.ChatResponse, line, {"stemma"})
    assert ("done_reason" in json.loads(line)) == (line == lines[-1])
body = {"model": model, "prompt": "Hi", "options": SHORT}
for line in http.post("/api/generate", json=body).text.splitlines():
    check(ollama.GenerateResponse, line, {"stemma"})
check(ollama.EmbedResponse, http.post("/api/embed", json={"model": model, "input": "x"}).text, set())
check(ollama.EmbeddingsResponse, http.post("/api/embeddings", json={"model": model, "prompt": "x"}).text, set())
check(ollama.ListResponse, http.get("/api/tags").text, set())
check(ollama.ProcessResponse, http.get("/api/ps").text, set())
check(ollama.ShowResponse, http.post("/api/show", json={"model": model}).text, set())
print("ok")
