"""`stemma serve --role`: a server whose prompts another one computes."""

from __future__ import annotations

import socket

import pytest

from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.server import ServerConfig
from stemma.server.generation import roles

BODY = {"model": "tiny-llama", "prompt": "word " * 60, "max_tokens": 8, "temperature": 0}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture(params=["a host", "a network"])
def place(request, tmp_path):
    if request.param == "a host":
        return {"handover": tmp_path / "handover"}
    return {"handover": f"tcp://127.0.0.1:{free_port()}", "handover_key": "known to both"}


async def test_a_server_that_decodes_answers_as_one_that_does_all(tiny_loaded, serve_with, place):
    with Engine.of(tiny_loaded, kv_tokens=4096) as alone:
        async with serve_with(alone, ServerConfig()) as client:
            expected = await client.post("/v1/completions", **BODY)
    with Engine.of(tiny_loaded, kv_tokens=4096) as giving, Engine.of(tiny_loaded, kv_tokens=4096) as taking:
        end_giving = roles.take(giving, ServerConfig(role="prefill", **place))
        config = ServerConfig(role="decode", **place)
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


@pytest.mark.parametrize(
    ("options", "param"),
    [({"handover": "tcp://h:1"}, "handover_key"), ({"handover": "/s", "handover_key": "k"}, "handover_key"),
     ({"handover": "tcp://h", "handover_key": "k"}, "handover")],
)  # fmt: skip
def test_a_network_needs_an_address_and_a_key(tiny_loaded, options, param):
    with Engine.of(tiny_loaded, kv_tokens=1024) as engine, pytest.raises(InvalidRequest) as refused:
        roles.take(engine, ServerConfig(role="prefill", **options))
    assert refused.value.param == param


def test_without_a_role_nothing_changes(tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=1024) as engine:
        roles.take(engine, ServerConfig())()
        assert engine.generate("hello", max_tokens=1).finish_reason == "length"
