"""The automaton's kernels, compiled and as Python: the same tables, entry by entry, on random grammars."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest

from stemma.fsm import Limits
from stemma.fsm.automaton import automaton
from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.ebnf import EBNF
from stemma.fsm.errors import GrammarError
from stemma.fsm.kernels import loader
from stemma.fsm.kernels.columns import COUNT
from stemma.fsm.kernels.loader import PLAIN, Kernels, kernels
from stemma.fsm.kernels.tables import Tables
from stemma.fsm.regex import Regex
from stemma.fsm.syntax import ast
from tests.fsm.test_left_recursion import drawn, written

FORMS = ["([a-z]+ ){0,9}[0-9]{3,40}", "(?s).*ab.*|[^x]{5}é", "(ab|a(c|de){2,7})+", "[\\x00-\\U0010ffff]{0,20}z"]
TEXT = "ab 0é\n☃zcde9"


def explored(grammar: ast.Grammar, using: Kernels, monkeypatch: pytest.MonkeyPatch, seed: int) -> Tables:
    """The tables after some walks."""
    monkeypatch.setattr(automaton, "kernels", lambda: using)
    machine, draw = Automaton(grammar, Limits()), random.Random(seed)
    for _ in range(5):
        config = machine.start
        for _ in range(9):
            [allowed] = machine.row(config).nonzero()
            data = bytes([draw.choice(allowed.tolist())]) if len(allowed) and draw.random() < 0.7 else None
            config = machine.step_bytes(config, data or draw.choice(TEXT).encode()) or machine.start
    return machine.tables


def assert_same(one: Tables, other: Tables) -> None:
    used = {
        "configs": COUNT.num_configs, "rows": COUNT.num_configs, "items": COUNT.num_items,
        "stacks": COUNT.num_stacks, "products": COUNT.num_products,
    }  # fmt: skip
    assert np.array_equal(one.counts, other.counts)
    for name, count in used.items():
        number = one.counts[count]
        mine, theirs = getattr(one, name)[:number], getattr(other, name)[:number]
        if name == "rows":  # of those that are filled
            filled = mine[:, 0] >= 0
            assert np.array_equal(filled, theirs[:, 0] >= 0)
            mine, theirs = mine[filled], theirs[filled]
        assert np.array_equal(mine, theirs), name


@pytest.mark.parametrize("seed", range(10))
def test_random_grammars_make_the_same_tables(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    compared = 0
    while compared < 3:
        rules = drawn(draw, ["root", "x", "y"][: draw.randint(1, 3)], 3)
        try:
            grammar = EBNF(written(rules)).grammar()
        except GrammarError:
            continue
        assert_same(*(explored(grammar, using, monkeypatch, seed) for using in (kernels(), PLAIN)))
        compared += 1


@pytest.mark.parametrize("form", FORMS)
def test_counted_and_joined_texts_make_the_same_tables(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = Regex(form).grammar()
    assert_same(*(explored(grammar, using, monkeypatch, 5) for using in (kernels(), PLAIN)))


def test_every_entry_point_is_compiled() -> None:
    assert [function.__name__ for function in kernels()] == list(Kernels._fields)
    assert [function.__name__ for function in PLAIN] == list(Kernels._fields)
    assert not any(one is other for one, other in zip(kernels(), PLAIN, strict=True))


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_fork_has_the_kernels(meanwhile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another thread of its parent was compiling them, which does not go on in the fork."""
    kernels()
    if meanwhile:
        monkeypatch.setattr(loader, "_compiled", [])
    with loader._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(120)
            machine = Automaton(Regex("a+b").grammar())
            os._exit(0 if machine.is_accepting(machine.step_bytes(machine.start, b"aab")) else 1)
    assert os.waitpid(child, 0)[1] == 0
