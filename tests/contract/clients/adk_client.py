"""Google's Agent Development Kit through LiteLLM: text, streams, tools, typed output."""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.genai import types
from pydantic import BaseModel

url, key, model = sys.argv[1:4]


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


def weather(city: str) -> dict[str, str]:
    """The weather in a city."""
    return {"weather": "sunny"}


async def run(agent: LlmAgent, said: list[str], mode: StreamingMode) -> list[object]:
    runner = InMemoryRunner(agent=agent, app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="me")
    events = []
    for text in said:
        message = types.Content(role="user", parts=[types.Part(text=text)])
        config = RunConfig(streaming_mode=mode, max_llm_calls=4)
        asked = {"user_id": "me", "session_id": session.id, "new_message": message, "run_config": config}
        events += [event async for event in runner.run_async(**asked)]
    assert all(event.error_code in (None, "MAX_TOKENS") for event in events), events
    return events


def text_of(event: object) -> str:
    return "".join(part.text or "" for part in event.content.parts if not part.thought)


async def main() -> None:
    for prefix in ("openai", "hosted_vllm"):
        served = LiteLlm(model=f"{prefix}/{model}", api_base=f"{url}/v1", api_key=key, max_tokens=40)
        for mode in (StreamingMode.NONE, StreamingMode.SSE):
            plain = LlmAgent(name="plain", model=served, instruction="Be brief.")
            events = await run(plain, ["Say hello.", "And then?"], mode)
            assert text_of(events[-1])
            assert events[-1].usage_metadata.candidates_token_count
            calls = LlmAgent(name="calls", model=served, tools=[weather])
            assert await run(calls, ["The weather in Paris?"], mode)
            typed = LlmAgent(name="typed", model=served, output_schema=City)
            City.model_validate_json(text_of((await run(typed, ["A city"], mode))[-1]))


asyncio.run(main())
print("ok")
