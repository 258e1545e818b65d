"""Strands Agents over chats and responses: text, tools, typed output, a conversation that goes on."""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from pydantic import BaseModel
from strands import Agent, tool
from strands.models.openai import OpenAIModel
from strands.models.openai_responses import OpenAIResponsesModel

url, key, model = sys.argv[1:4]
ran = []


class City(BaseModel):
    """A city."""

    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    ran.append(city)
    return "sunny"


async def events(agent: Agent, prompt: str) -> list[object]:
    return [event async for event in agent.stream_async(prompt)]


for kind, limit in ((OpenAIModel, "max_tokens"), (OpenAIResponsesModel, "max_output_tokens")):
    served = kind(
        client_args={"base_url": f"{url}/v1", "api_key": key}, model_id=model, params={limit: 400, "temperature": 0}
    )
    agent = Agent(model=served, callback_handler=None, system_prompt="Be brief.")
    answer = agent("Say hello.")
    assert str(answer).strip()
    assert answer.metrics.accumulated_usage["outputTokens"] > 0
    assert agent("And in French?").stop_reason == "end_turn"
    assert len(agent.messages) == 4
    assert asyncio.run(events(Agent(model=served, callback_handler=None), "Say hello."))
    assert (
        Agent(model=served, tools=[weather], callback_handler=None)("The weather in Paris?").stop_reason == "end_turn"
    )
    typed = Agent(model=served, callback_handler=None)("A city", structured_output_model=City)
    assert isinstance(typed.structured_output, City)
print("ok")
