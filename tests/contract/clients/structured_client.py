"""Outlines (as a client of OpenAI's, vLLM's and SGLang's servers), Magentic, Agno and Guidance: typed output."""

import re
import sys
from typing import Literal

import guidance
import openai
import outlines
from agno.agent import Agent
from agno.models.openai.like import OpenAILike
from guidance import assistant, models, user
from magentic import OpenaiChatModel, prompt
from outlines.types import CFG, Regex
from pydantic import BaseModel

url, key, model = sys.argv[1:4]
base = f"{url}/v1"
client = openai.OpenAI(base_url=base, api_key=key)


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


for connect in (outlines.from_openai, outlines.from_vllm, outlines.from_sglang):
    served = connect(client, model)
    City.model_validate_json(served("A city", City, max_tokens=60))
    assert len(list(served.stream("Hello", max_tokens=6))) > 2
vllm, sglang = outlines.from_vllm(client, model), outlines.from_sglang(client, model)
assert re.fullmatch("[0-9]{3}", vllm("A number", Regex("[0-9]{3}"), max_tokens=20))
assert vllm("Well?", Literal["yes", "no"], max_tokens=20) in ("yes", "no")
assert vllm("Well?", CFG('start: "yes" | "no"'), max_tokens=20) in ("yes", "no")
assert re.fullmatch("[0-9]{3}", sglang("A number", Regex("[0-9]{3}"), max_tokens=20))
assert sglang("Well?", CFG('root ::= "yes" | "no"'), max_tokens=20) in ("yes", "no")


@prompt("A city", model=OpenaiChatModel(model, api_key=key, base_url=base, max_tokens=200))
def city() -> City: ...


assert isinstance(city(), City)

agent = Agent(model=OpenAILike(id=model, base_url=base, api_key=key, max_tokens=60), output_schema=City)
assert isinstance(agent.run("A city").content, City)

talk = models.OpenAI(model, api_key=key, base_url=base)
with user():
    talk += "A city"
with assistant():
    talk += guidance.json("city", schema=City)
City.model_validate_json(talk["city"])
print("ok")
