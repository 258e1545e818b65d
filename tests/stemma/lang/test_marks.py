"""Programs on a model with windows and states: branches and sessions go on to the token from what they share."""

from __future__ import annotations

import pytest
import torch

import stemma
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from tests.runtime.engine.marked import marked

SYSTEM = "You are brief, whatever you are asked about, and whoever asks it."


@pytest.fixture(params=["window", "state"])
def llm(request):
    with Engine.of(marked(ReferenceOps(torch.device("cpu")), request.param), kv_tokens=8192, block_size=4) as engine:
        yield engine


def test_the_second_session_goes_on_behind_the_system_prompt(llm):
    usages = []
    for question in ("one?", "and another"):
        with stemma.Chat(llm, SYSTEM, max_tokens=3) as chat:
            reply = chat.send(question)
            reply.result()
            usages.append(reply.usage)
    assert usages[1].cached_tokens > len(SYSTEM)
    assert usages[1].replayed_tokens == 0


@stemma.program
async def judge(s: stemma.State, essay: str) -> list[stemma.Usage]:
    async def branch(own: stemma.State, trait: str) -> stemma.Usage:
        verdict = own.text(f"How {trait} is it?").gen(max_tokens=3)
        await verdict
        return verdict.usage

    return await s.user(f"An essay: {essay}. ").fork(["clear", "long", "true"], branch)


def test_the_branches_of_a_fork_go_on_from_where_they_part(llm):
    usages = judge.run_sync(llm, "all that one could say about it in some forty words or so").value
    assert sum(usage.replayed_tokens for usage in usages) <= len("How "), "more than that is not known to be shared"
    assert all(usage.prefilled_tokens < 60 for usage in usages)
