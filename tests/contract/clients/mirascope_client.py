"""Mirascope over chats and responses: text, streams, tools, typed output."""

from __future__ import annotations

import sys
from typing import Literal

from mirascope import llm
from pydantic import BaseModel

url, key, model = sys.argv[1:4]


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


@llm.tool
def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    return "sunny"


for mode in ("completions", "responses"):
    llm.register_provider(f"openai:{mode}", scope="openai/", base_url=f"{url}/v1", api_key=key)
    served = llm.Model(f"openai/{model}:{mode}", max_tokens=100)
    answer = served.call("Say hello.")
    assert answer.text(), answer
    assert answer.usage.output_tokens
    stream = served.stream("Say hello.")
    assert "".join(stream.text_stream())
    assert stream.usage.output_tokens
    for formatting in ("strict", "json", "tool"):
        assert isinstance(served.call("A city", format=llm.format(City, mode=formatting)).parse(), City)
    called = served.call("The weather in Paris?", tools=[weather])
    after = called.resume(called.execute_tools()) if called.tool_calls else called.resume("And then?")
    assert after.messages
    thinking = llm.Model(f"openai/{model}:{mode}", max_tokens=20, thinking={"level": "low"})
    assert thinking.call("Say hello.").text()
print("ok")
