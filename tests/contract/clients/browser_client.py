"""browser-use's models: text, and an agent's typed steps, over chats. No browser is started."""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from browser_use import ChatOpenAI
from browser_use.agent.views import AgentOutput
from browser_use.llm.messages import AssistantMessage, SystemMessage, UserMessage
from browser_use.tools.service import Tools
from pydantic import BaseModel

url, key, model = sys.argv[1:4]


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


async def main() -> None:
    where = {"model": model, "base_url": f"{url}/v1", "api_key": key, "temperature": 0, "max_completion_tokens": 200}
    messages = [
        SystemMessage(content="Be brief."), UserMessage(content="Say hello."), AssistantMessage(content="Hello."),
        UserMessage(content="A city?"),
    ]  # fmt: skip
    for more in ({}, {"add_schema_to_system_prompt": True}, {"reasoning_models": [model], "reasoning_effort": "low"}):
        served = ChatOpenAI(**where, **more)
        plain = await served.ainvoke(messages)
        assert plain.completion
        assert plain.usage.completion_tokens
        typed = await served.ainvoke(messages, City)
        assert isinstance(typed.completion, City)
    actions = Tools().registry.create_action_model()
    steps = AgentOutput.type_with_custom_actions(actions)
    served = ChatOpenAI(**{**where, "max_completion_tokens": 1500})
    step = await served.ainvoke([messages[0], UserMessage(content="Go to example.com")], steps)
    assert isinstance(step.completion, AgentOutput)


asyncio.run(main())
print("ok")
