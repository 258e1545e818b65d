"""LangChain's agents on LangGraph: typed output by a tool and by the server, tools, streams; chats and responses."""

from __future__ import annotations

import sys
from typing import Literal

from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain.chat_models import init_chat_model
from langchain.messages import AIMessage, ToolMessage
from langchain.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

url, key, model = sys.argv[1:4]


class City(BaseModel):
    """A city."""

    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


class Weather(BaseModel):
    """The weather."""

    sky: Literal["sunny", "grey"]


@tool(return_direct=True)
def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    return "sunny"


ask = {"messages": [{"role": "user", "content": "The weather in Paris?"}]}
for more in ({"stream_usage": True}, {"use_responses_api": True}, {"reasoning_effort": "low", "stream_usage": True}):
    chat = init_chat_model(f"openai:{model}", base_url=f"{url}/v1", api_key=key, max_tokens=100, **more)
    assert chat.invoke("Say hello.").text
    chunks = list(chat.stream("Say hello."))
    assert "".join(chunk.text for chunk in chunks)
    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks)
    for strategy in (ToolStrategy(City), ToolStrategy(City | Weather), ProviderStrategy(City)):
        agent = create_agent(chat, response_format=strategy)
        assert isinstance(agent.invoke(ask, {"recursion_limit": 8})["structured_response"], City | Weather)
    both = create_agent(chat, tools=[weather], response_format=ToolStrategy(City))
    steps = list(both.stream(ask, {"recursion_limit": 12}, stream_mode="updates"))
    assert steps
    bound = chat.bind_tools([weather], tool_choice="required")
    called = bound.invoke("The weather in Paris?")
    assert called.tool_calls[0]["name"] == "weather"
    results = [ToolMessage("sunny", tool_call_id=call["id"]) for call in called.tool_calls]
    history = [*ask["messages"], called, *results]
    assert isinstance(chat.bind_tools([weather]).invoke(history), AIMessage)
    talk = create_agent(chat, checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    for said in ("My name is Ann.", "What is my name?"):
        answer = talk.invoke({"messages": [{"role": "user", "content": said}]}, thread)
    assert len(answer["messages"]) == 4
print("ok")
