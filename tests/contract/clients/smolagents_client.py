"""smolagents: its models and its agents, which call tools or write code."""

from __future__ import annotations

import sys

from smolagents import CodeAgent, OpenAIModel, ToolCallingAgent, tool

url, key, model = sys.argv[1:4]


@tool
def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: The city.
    """
    return "sunny"


served = OpenAIModel(model_id=model, api_base=f"{url}/v1", api_key=key, max_tokens=40)
asked = [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
assert served(asked).content
assert list(served.generate_stream(asked))[-1].token_usage.output_tokens <= 40
schema = {
    "type": "json_schema",
    "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}},
}
assert served(asked, response_format=schema).content == '{"a":1}'
called = served(asked, tools_to_call_from=[weather], stop_sequences=["Observation:"])
assert called.tool_calls[0].function.name == "weather", called
inside = {"use_structured_outputs_internally": True}
for kind, more in ((ToolCallingAgent, {}), (ToolCallingAgent, {"stream_outputs": True}), (CodeAgent, inside)):
    agent = kind(tools=[weather], model=served, max_steps=1, verbosity_level=0, **more)
    agent.run("The weather in Paris?")
    errors = [step.error for step in agent.memory.steps if getattr(step, "error", None)]
    assert all("generating model output" not in str(error) for error in errors), errors
print("ok")
