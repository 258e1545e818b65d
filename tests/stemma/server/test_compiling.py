"""Grammars that take too long: refused, remembered, and no reason to refuse others."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest

from stemma.fsm import ast
from stemma.fsm.regex import Regex
from stemma.runtime.engine import Engine
from stemma.server.compiling import NUM_THREADS, Compilers, TooHard
from stemma.server.errors import ApiError

GO_ON = threading.Event()


@dataclass(frozen=True)
class Slow:
    """A grammar that takes as long as the test wants."""

    number: int

    def grammar(self) -> ast.Grammar:
        GO_ON.wait(20)
        return Regex("a").grammar()


async def test_what_is_too_hard_is_remembered_and_who_waits_is_not_to_blame(engine: Engine) -> None:
    GO_ON.clear()
    compilers = Compilers(engine, 0.2)
    try:
        for number in range(NUM_THREADS):
            with pytest.raises(TooHard):
                await compilers.prepare(Slow(number))
        with pytest.raises(TooHard):
            await compilers.prepare(Slow(0))  # at once: no thread is free
        with pytest.raises(ApiError) as waited:
            await compilers.prepare(Regex("b"))
        assert waited.value.status == 503
        GO_ON.set()
        await compilers.prepare(Regex("b"))
    finally:
        GO_ON.set()
        compilers.close()


async def test_a_wrong_grammar_is_told_so(client: Any) -> None:
    assert (await client.post("/v1/completions", status=400, prompt="x", regex="("))["error"]["param"] == "regex"
