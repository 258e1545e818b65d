"""Grammars that are hard: refused for their work, not for their time, remembered, and no reason to refuse others."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest

from stemma.fsm import LimitError
from stemma.fsm.regex import Regex
from stemma.fsm.syntax import ast
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.server.http.errors import ApiError
from stemma.server.outputs.compiling import NUM_THREADS, Compilers

GO_ON = threading.Event()
ASKED: list[int] = []


@dataclass(frozen=True)
class Slow:
    """A grammar that takes as long as the test wants."""

    number: int

    def grammar(self) -> ast.Grammar:
        GO_ON.wait(20)
        return Regex("a").grammar()


@dataclass(frozen=True)
class Hard:
    """A grammar that takes more work than any may."""

    number: int

    def grammar(self) -> ast.Grammar:
        ASKED.append(self.number)
        raise LimitError("too much work")


async def test_who_waits_is_not_to_blame_and_finds_it_ready_later(engine: Engine) -> None:
    GO_ON.clear()
    compilers = Compilers(engine, 0.2)
    try:
        for spec in [*map(Slow, range(NUM_THREADS)), Slow(0), Regex("b")]:  # being compiled, and no thread is free
            with pytest.raises(ApiError) as waited:
                await compilers.prepare(spec)
            assert waited.value.status == 503
        GO_ON.set()
        for spec in [Slow(0), Regex("b")]:
            await compilers.prepare(spec)
    finally:
        GO_ON.set()
        compilers.close()


async def test_what_is_too_hard_is_compiled_once_and_refused_at_once(engine: Engine) -> None:
    ASKED.clear()
    compilers = Compilers(engine, 20.0)
    try:
        for _ in range(3):
            with pytest.raises(InvalidRequest, match="too much work"):
                await compilers.prepare(Hard(1))
        assert ASKED == [1]
    finally:
        compilers.close()


async def test_a_wrong_grammar_is_told_so(client: Any) -> None:
    assert (await client.post("/v1/completions", status=400, prompt="x", regex="("))["error"]["param"] == "regex"
