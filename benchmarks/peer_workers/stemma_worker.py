"""Stemma behind the workers' protocol. Arguments: the model's file, perhaps the size of the KV pool in tokens, perhaps
"no-cache".

A request for JSON jumps ahead over what the schema forces only where it says "jump".
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from protocol import Request, Timed, serve

from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.engine import Engine

engine = Engine(
    sys.argv[1], max_running=64, kv_tokens=int(sys.argv[2]) if len(sys.argv) > 2 else 80_000,
    prefix_cache="no-cache" not in sys.argv[3:],
)  # fmt: skip


@cache
def stepwise() -> Engine:
    """The same model without jump-forward, once it is needed."""
    return Engine.of(engine.loaded, max_running=16, kv_tokens=16_000, jump_forward=False)


def run(requests: list[Request], prompts: list[list[int]]) -> list[Any] | Timed:
    if "schema" in requests[0]:
        chosen = engine if requests[0].get("jump") else stepwise()
        grammar = JSONSchema(requests[0]["schema"])
        texts = [request["text"] for request in requests]
        return [c.text for c in chosen.generate(texts, max_tokens=requests[0]["max"], temperature=0, grammar=grammar)]
    sizes = {request["max"] for request in requests}
    assert len(sizes) == 1
    done = engine.generate(prompts, max_tokens=sizes.pop(), temperature=0, ignore_eos=True)
    return Timed([list(completion.tokens) for completion in done], [completion.timing.ttft for completion in done])


serve(run)
