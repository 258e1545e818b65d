"""AutoGen, OpenAI's agents and Semantic Kernel: text, streams, tools, typed output."""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from openai import AsyncOpenAI
from openai.types.shared import Reasoning
from pydantic import BaseModel
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.contents import ChatHistory

url, key, model = sys.argv[1:4]
base = f"{url}/v1"
set_tracing_disabled(True)


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


async def autogen() -> None:
    info = {"vision": False, "function_calling": True, "json_output": True, "family": "unknown",
            "structured_output": True}  # fmt: skip
    client = OpenAIChatCompletionClient(model=model, base_url=base, api_key=key, max_tokens=60, model_info=info)
    hello = [UserMessage(content="Say hello.", source="user")]
    assert (await client.create(hello)).usage.prompt_tokens
    City.model_validate_json((await client.create(hello, json_output=City)).content)
    assert [part async for part in client.create_stream(hello, include_usage=True)][-1].usage.completion_tokens
    typed = await AssistantAgent("typed", model_client=client, output_content_type=City).run(task="A city?")
    assert isinstance(typed.messages[-1].content, City)


async def openai_agents() -> None:
    @function_tool
    def weather(city: Literal["Paris", "Rome"]) -> str:
        return "sunny"

    client = AsyncOpenAI(base_url=base, api_key=key)
    for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        served = kind(model=model, openai_client=client)
        typed = await Runner.run(Agent("typed", model=served, output_type=City), "A city")
        assert isinstance(typed.final_output, City)
        must = ModelSettings(tool_choice="required")
        called = await Runner.run(Agent("calls", model=served, tools=[weather], model_settings=must), "Weather?")
        assert any(item.type == "tool_call_output_item" for item in called.new_items)
        streamed = Runner.run_streamed(Agent("streams", model=served, output_type=City), "A city")
        assert {event.type async for event in streamed.stream_events()} >= {"raw_response_event"}
        assert isinstance(streamed.final_output, City)


async def openai_agents_with_state() -> None:
    """The last response's id, a session that is a conversation, and a conversation with calls in it."""
    client = AsyncOpenAI(base_url=base, api_key=key)
    served = OpenAIResponsesModel(model=model, openai_client=client)
    short = ModelSettings(extra_body={"stop": ["."]})
    agent = Agent("keeps", instructions="Be brief.", model=served, model_settings=short)
    first = await Runner.run(agent, "My name is Ada.")
    second = await Runner.run(agent, "Who am I?", previous_response_id=first.last_response_id)
    items = [item async for item in client.responses.input_items.list(second.last_response_id, order="asc")]
    assert [item.role for item in items] == ["user", "assistant", "user"]
    session = OpenAIConversationsSession(openai_client=client)
    for turn in range(2):
        await Runner.run(agent, f"Turn {turn}", session=session)
    assert len(await session.get_items()) == 4
    assert (await session.pop_item())["role"] == "assistant"
    assert len(await session.get_items(limit=2)) == 2
    await session.clear_session()

    @function_tool
    def weather(city: Literal["Paris", "Rome"]) -> str:
        return "sunny"

    conversation = await client.conversations.create()
    must = ModelSettings(tool_choice="required", extra_body={"stop": ["."]})
    await Runner.run(
        Agent("calls", model=served, tools=[weather], model_settings=must), "Weather?", conversation_id=conversation.id
    )
    kinds = [item.type async for item in client.conversations.items.list(conversation.id, order="asc")]
    assert (kinds[0], kinds[-1]) == ("message", "message")
    assert kinds.count("function_call") == kinds.count("function_call_output") > 0
    thinks = ModelSettings(
        reasoning=Reasoning(effort="low", summary="auto"), store=False, extra_body={"stop": ["."]},
        response_include=["reasoning.encrypted_content"],
    )  # fmt: skip
    assert (await Runner.run(Agent("thinks", model=served, model_settings=thinks), "Hello")).new_items


async def semantic_kernel() -> None:
    service = OpenAIChatCompletion(ai_model_id=model, async_client=AsyncOpenAI(base_url=base, api_key=key))
    history = ChatHistory()
    history.add_user_message("A city")
    settings = OpenAIChatPromptExecutionSettings(max_tokens=60, response_format=City)
    City.model_validate_json(str(await service.get_chat_message_content(history, settings)))
    short = OpenAIChatPromptExecutionSettings(max_tokens=8)
    assert [str(part) async for part in service.get_streaming_chat_message_content(history, short)]


async def all_of_them() -> None:
    await autogen()
    await openai_agents()
    await openai_agents_with_state()
    await semantic_kernel()


asyncio.run(all_of_them())
print("ok")
