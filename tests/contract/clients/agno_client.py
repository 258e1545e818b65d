"""Agno over chats and over responses: text, streams, tools, typed output, a session with history, reasoning."""

from __future__ import annotations

import sys
from typing import Any, Literal

from agno.agent import Agent
from agno.db.in_memory import InMemoryDb
from agno.models.openai import OpenAIChat, OpenAIResponses
from agno.models.openai.like import OpenAILike
from agno.models.openai.open_responses import OpenResponses
from agno.tools import tool
from pydantic import BaseModel

url, key, model = sys.argv[1:4]
where = {"id": model, "base_url": f"{url}/v1", "api_key": key}


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


@tool(stop_after_tool_call=True)
def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    return "sunny"


def try_it(served: Any) -> None:
    assert Agent(model=served).run("Say hello.").content
    events = list(Agent(model=served).run("Say hello.", stream=True))
    assert "".join(str(event.content or "") for event in events)
    assert isinstance(Agent(model=served, output_schema=City).run("A city").content, City)
    agent = Agent(model=served, tools=[weather], tool_choice="required")
    ran = agent.run("The weather in Paris?")
    assert [call.result for call in ran.tools][:1] == ["sunny"], ran
    events = agent.run("The weather in Paris?", stream=True, stream_events=True)
    calls = [event.tool for event in events if getattr(event, "tool", None)]
    assert any(call.result == "sunny" for call in calls), calls
    talk = Agent(model=served, db=InMemoryDb(), add_history_to_context=True, session_id="one")
    for said in ("My name is Ann.", "What is my name?", "And then?"):
        assert talk.run(said).status.value == "COMPLETED"
    ran = Agent(model=served).run("Say hello.")
    assert min(ran.metrics.input_tokens, ran.metrics.output_tokens) > 0, ran.metrics


for kind in (OpenAILike, OpenAIChat, OpenAIResponses, OpenResponses):
    limit = {"max_output_tokens": 60} if "Responses" in kind.__name__ else {"max_tokens": 60}
    try_it(kind(**where, **limit, reasoning_effort="low"))
print("ok")
