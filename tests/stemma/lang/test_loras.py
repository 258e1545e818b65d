"""States and chats with an adapter: here and on a server, copies and forks included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import stemma
from stemma.kernels.reference import ReferenceOps
from stemma.lang.chats.chat import Chat
from stemma.lang.states.state import State
from stemma.runtime.errors import RemoteError
from stemma.server import ServerConfig
from tests.runtime.model.lora_making import with_adapters
from tests.stemma.server.live import live_server

ADAPTERS = (None, "one", "two")


@pytest.fixture(scope="module")
def adapted() -> Iterator[stemma.Engine]:
    with stemma.Engine.of(with_adapters("llama", ReferenceOps(torch.device("cpu"))), kv_tokens=8192) as engine:
        yield engine


def said(llm: Any, lora: str | None) -> tuple[str, str, str]:
    """By a state, its copy, and a chat."""
    with State(llm, lora=lora, max_tokens=4) as state:
        state.user("Tell me of the sea, and of ships.").prefill().result()
        assert state.explain().found.hit_len == len(state.tokens)
        with state.copy() as copy:
            first, second = state.gen().result(), copy.select(["yes", "no"]).result()
    chat = Chat(llm, lora=lora, max_tokens=4)
    return first, second, chat.send("Hello, who is there?").result()


def test_they_are_the_engines_own(adapted: stemma.Engine) -> None:
    here = {lora: said(adapted, lora) for lora in ADAPTERS}
    assert len(set(here.values())) == len(ADAPTERS)
    with live_server(adapted, ServerConfig(model_name="tiny")) as live, stemma.connect(live.url) as remote:
        assert {lora: said(remote, lora) for lora in ADAPTERS} == here
        with pytest.raises(RemoteError, match="no model 'three'"):
            remote.generate("x", lora="three")
        with State(remote, lora="one").user("Keep this much of it.") as state, state.pinned(ttl=9):
            assert state.explain().found.hit_len == len(state.tokens)
