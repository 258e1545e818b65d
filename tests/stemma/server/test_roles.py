"""`stemma serve --role`: a server whose prompts another one on this host computes."""

from __future__ import annotations

import pytest

from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.server import ServerConfig
from stemma.server.generation import roles

BODY = {"model": "tiny-llama", "prompt": "word " * 60, "max_tokens": 8, "temperature": 0}


async def test_a_server_that_decodes_answers_as_one_that_does_all(tiny_loaded, serve_with, tmp_path):
    path = tmp_path / "handover"
    with Engine.of(tiny_loaded, kv_tokens=4096) as alone:
        async with serve_with(alone, ServerConfig()) as client:
            expected = await client.post("/v1/completions", **BODY)
    with Engine.of(tiny_loaded, kv_tokens=4096) as giving, Engine.of(tiny_loaded, kv_tokens=4096) as taking:
        end_giving = roles.take(giving, ServerConfig(role="prefill", handover=path))
        config = ServerConfig(role="decode", handover=path)
        end_taking = roles.take(taking, config)
        async with serve_with(taking, config) as client:
            said = await client.post("/v1/completions", **BODY)
        assert said["choices"][0]["text"] == expected["choices"][0]["text"]
        assert said["usage"]["stemma"]["prefilled_tokens"] == 1
        assert giving.stats().metrics.usage.prefilled_tokens >= 299
        end_taking()
        end_giving()


@pytest.mark.parametrize("options", [{"role": "decode"}, {"role": "prefill"}, {"handover": "x"}])
def test_a_role_and_a_place_go_together(options):
    with pytest.raises(InvalidRequest) as refused:
        ServerConfig(**options)
    assert refused.value.param == "handover"


def test_without_a_role_nothing_changes(tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=1024) as engine:
        roles.take(engine, ServerConfig())()
        assert engine.generate("hello", max_tokens=1).finish_reason == "length"
