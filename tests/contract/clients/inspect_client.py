"""inspect-ai: evaluations with tools, log-probabilities, reasoning effort; over chats and responses."""

from __future__ import annotations

import asyncio
import sys
import tempfile

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool

url, key, model = sys.argv[1:4]


@tool
def weather():
    async def execute(city: str) -> str:
        """The weather.

        Args:
            city: The city.
        """
        return "sunny"

    return execute


async def direct(name: str, **more: object) -> None:
    where = {"base_url": f"{url}/v1", "api_key": key, **more}
    config = GenerateConfig(max_tokens=30, temperature=0, seed=1, reasoning_effort="low")
    async with get_model(name, **where, config=config) as served:
        answer = await served.generate("Say hello.")
        assert answer.completion, answer
        assert answer.usage.output_tokens
        if not more.get("responses_api"):
            scored = await served.generate(
                "Say hello.", config=GenerateConfig(logprobs=True, top_logprobs=2, num_choices=2)
            )
            assert scored.choices[1].logprobs.content[0].top_logprobs
        called = await served.generate(
            "The weather in Paris?", tools=[weather()], tool_choice="any", config=GenerateConfig(max_tokens=200)
        )
        assert called.message.tool_calls, called


for name, more in (
    (f"openai-api/stemma/{model}", {}),
    (f"openai/{model}", {"responses_api": False}),
    (f"openai/{model}", {"responses_api": True}),
    (f"vllm/{model}", {}),
    (f"openai-api/stemma/{model}", {"stream": True}),
):
    asyncio.run(direct(name, **more))
    where = {"model_base_url": f"{url}/v1", "model_args": {"api_key": key, **more}}
    task = Task(
        dataset=[Sample("The capital of France?", target="Paris")],
        solver=[use_tools(weather()), generate()],
        scorer=includes(),
    )
    with tempfile.TemporaryDirectory() as folder:
        (log,) = eval(
            task, model=name, **where, log_dir=folder, display="none", max_tokens=40, temperature=0, message_limit=4
        )
    assert log.status == "success", log.error
print("ok")
