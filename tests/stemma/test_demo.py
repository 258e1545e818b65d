"""The demo's figures are of the cache: what is compiled on first use is compiled before the clock starts."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.terminal import demo


@pytest.fixture
def done(monkeypatch) -> list[str]:
    """What was done, in order."""
    order: list[str] = []

    class Loader:
        def wait(self) -> None:
            order.append("compiled")

    def part(llm: Engine) -> list:
        order.append("timed")
        return [llm.generate("x", max_tokens=1)]

    monkeypatch.setattr(demo, "loader", Loader)
    monkeypatch.setattr(demo, "HANDBOOK", "x")
    for name in ("_questions", "_chat", "_records", "_samples"):
        monkeypatch.setattr(demo, name, part)
    return order


def test_nothing_is_timed_while_kernels_are_compiled(done):
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=4096) as llm:
        demo.run(llm, Console(quiet=True))
        assert [node.namespace for node in llm.tree()] == [""]
    assert done == [*["compiled", *["timed"] * 4]] * 2
