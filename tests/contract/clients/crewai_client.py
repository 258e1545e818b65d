"""CrewAI: its LLM, an agent with a tool, typed output."""

from __future__ import annotations

import os
import sys
from typing import Literal

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", OTEL_SDK_DISABLED="true", CREWAI_TRACING_ENABLED="false")

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from pydantic import BaseModel

url, key, model = sys.argv[1:4]


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


@tool("weather")
def weather(city: str) -> str:
    """The weather in a city."""
    return "sunny"


for provider in ("openai", "hosted_vllm"):
    for more in (
        {},
        {"stream": True},
        {"reasoning_effort": "low"},
        {"api": "responses"} if provider == "openai" else {},
    ):
        where = {"base_url": f"{url}/v1", "api_key": key, "max_tokens": 100, "temperature": 0}
        served = LLM(model=f"{provider}/{model}", **where, **more)
        assert served.call("Say hello.")
        typed = LLM(model=f"{provider}/{model}", **where, response_format=City).call("A city")
        City.model_validate_json(typed) if isinstance(typed, str) else City.model_validate(typed.model_dump())
    agent = Agent(role="guide", goal="tell", backstory="A guide.", llm=served, tools=[weather], max_iter=2)
    task = Task(description="The weather in Paris?", expected_output="a word", agent=agent)
    assert Crew(agents=[agent], tasks=[task], verbose=False).kickoff().raw
    teller = Agent(role="guide", goal="tell", backstory="A guide.", llm=served)
    task = Task(description="A city", expected_output="a city", agent=teller, output_pydantic=City)
    assert isinstance(Crew(agents=[teller], tasks=[task], verbose=False).kickoff().pydantic, City)
print("ok")
