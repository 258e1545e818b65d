"""OpenAI's agents with reasoning and with state: previous responses, conversations, sessions, handoffs."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from openai.types.shared import Reasoning
from pydantic import BaseModel

url, key, model = sys.argv[1:4]
set_tracing_disabled(True)
client = AsyncOpenAI(base_url=f"{url}/v1", api_key=key)
set_default_openai_client(client, use_for_tracing=False)


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


@function_tool
def weather(city: Literal["Paris", "Rome"]) -> str:
    return "sunny"


async def both_ways(agent: Agent[Any], said: str, **more: Any) -> Any:
    streamed = Runner.run_streamed(agent, said, **more)
    kinds = [event.type async for event in streamed.stream_events()]
    assert "raw_response_event" in kinds
    return await Runner.run(agent, said, **more)


async def main() -> None:
    thinking = ModelSettings(
        reasoning=Reasoning(effort="low", summary="auto"), max_tokens=400, temperature=0, verbosity="medium"
    )
    stored = ModelSettings(store=True, max_tokens=400, temperature=0, response_include=["reasoning.encrypted_content"])
    for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        served = kind(model=model, openai_client=client)
        for settings in (thinking, stored):
            agent = Agent("plain", instructions="Be brief.", model=served, model_settings=settings)
            first = await both_ways(agent, "Say hello.")
            assert first.final_output
            again = await Runner.run(agent, [*first.to_input_list(), {"role": "user", "content": "Again."}])
            assert again.final_output
        session = SQLiteSession("one")
        for said in ("My name is Ann.", "What is my name?"):
            assert (await both_ways(agent, said, session=session)).final_output
        must = ModelSettings(tool_choice="required", max_tokens=100)
        caller = Agent(
            "calls", model=served, tools=[weather], model_settings=must, tool_use_behavior="stop_on_first_tool"
        )
        assert (await both_ways(caller, "Weather in Paris?")).final_output == "sunny"
        target = Agent("target", model=served, model_settings=thinking, handoff_description="Knows cities.")
        giving = Agent("giving", model=served, handoffs=[target], model_settings=must)
        given = await Runner.run(giving, "A city?")
        assert given.last_agent.name == "target"
    await with_state(served, stored, must)


async def with_state(served: OpenAIResponsesModel, stored: ModelSettings, must: ModelSettings) -> None:
    agent = Agent("plain", instructions="Be brief.", model=served, model_settings=stored)
    first = await both_ways(agent, "My name is Ann.")
    second = await both_ways(agent, "What is my name?", previous_response_id=first.last_response_id)
    assert second.final_output
    auto = await both_ways(agent, "Hi", auto_previous_response_id=True)
    assert auto.final_output
    calling = {"tools": [weather], "tool_use_behavior": "stop_on_first_tool"}
    caller = Agent("calls", model=served, model_settings=must, **calling)
    called = await Runner.run(caller, "Weather?", auto_previous_response_id=True)
    assert called.final_output
    session = OpenAIConversationsSession(openai_client=client)
    for said in ("My name is Ann.", "What is my name?"):
        assert (await both_ways(agent, said, session=session)).final_output
    assert len(await session.get_items()) >= 4
    await session.clear_session()
    conversation = await client.conversations.create()
    assert (await both_ways(agent, "Hello", conversation_id=conversation.id)).final_output


asyncio.run(main())
print("ok")
