"""LlamaIndex, Haystack, smolagents and LangChain: text, streams, tools, typed output."""

from __future__ import annotations

import sys
from typing import Literal

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack.utils import Secret
from langchain_openai import ChatOpenAI
from langchain_openai import OpenAI as LangChainCompletions
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from smolagents import OpenAIServerModel

url, key, model = sys.argv[1:4]
base = f"{url}/v1"


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


# LlamaIndex ----------------------------------------------------------------
options = {"model": model, "api_base": base, "api_key": key, "context_window": 8192, "max_tokens": 60}
calling = OpenAILike(**options, is_chat_model=True, is_function_calling_model=True)
assert calling.complete("Say hello.").text
assert "".join(part.delta or "" for part in calling.stream_complete("Say hello."))
assert isinstance(calling.as_structured_llm(City).complete("A city").raw, City)
plain = OpenAILike(**options, is_chat_model=True, is_function_calling_model=False, should_use_structured_outputs=True)
assert isinstance(plain.structured_predict(City, PromptTemplate("A city")), City)
completing = OpenAILike(**options, is_chat_model=False)
assert completing.complete("The capital of France is").text
assert "".join(part.delta or "" for part in completing.stream_complete("Once"))

# Haystack ----------------------------------------------------------------
weather = Tool(
    name="weather",
    description="The weather of a city",
    parameters={"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]},
    function=lambda city: "sunny",
)
generator = OpenAIChatGenerator(api_key=Secret.from_token(key), model=model, api_base_url=base)
ask = [ChatMessage.from_user("The weather in Paris?")]
chunks: list[object] = []
generator.run(ask, streaming_callback=chunks.append, generation_kwargs={"max_tokens": 8})
assert len(chunks) > 3
(reply,) = generator.run(ask, tools=[weather], generation_kwargs={"tool_choice": "required"})["replies"]
assert reply.tool_calls[0].arguments == {"city": "Paris"}
(reply,) = generator.run(ask, generation_kwargs={"response_format": City})["replies"]
City.model_validate_json(reply.text)

# smolagents ----------------------------------------------------------------
served = OpenAIServerModel(model_id=model, api_base=base, api_key=key, max_tokens=8)
asked = [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
assert served(asked).content
assert list(served.generate_stream(asked))[-1].token_usage.output_tokens <= 8

# LangChain ----------------------------------------------------------------
chat = ChatOpenAI(model=model, base_url=base, api_key=key, max_tokens=60)
for method in ("json_schema", "function_calling"):
    for strict in (None, True):
        assert isinstance(chat.with_structured_output(City, method=method, strict=strict).invoke("A city"), City)
assert isinstance(
    ChatOpenAI(model=model, base_url=base, api_key=key, use_responses_api=True)
    .with_structured_output(City, method="json_schema")
    .invoke("A city"),
    City,
)
completions = LangChainCompletions(model=model, base_url=base, api_key=key, max_tokens=6)
assert all(completions.batch(["Once", "The sea"]))
assert "".join(completions.stream("Once"))
print("ok")
