"""The automaton against Python's `re`, byte by byte, on random small expressions with products and counters."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.fsm import LimitError, Limits
from stemma.fsm.automaton import spare_tables
from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.ebnf import EBNF
from stemma.fsm.kernels.columns import COUNT
from stemma.fsm.syntax import ast
from tests.fsm.ambiguous import AMBIGUOUS

A, B, C = (ast.Literal(letter) for letter in (b"a", b"b", b"c"))


def no_rules(name: object) -> ast.Node:
    raise AssertionError(f"nothing calls {name}")


def automaton(node: ast.Node) -> Automaton:
    return Automaton(ast.Grammar(node, no_rules))


def matches(machine: Automaton, data: bytes) -> bool:
    return machine.is_accepting(machine.step_bytes(machine.start, data))


def pattern(node: ast.Node) -> str:
    match node:
        case ast.Literal(data=data):
            return re.escape(data.decode())
        case ast.Characters(ranges=ranges):
            return "[" + "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges) + "]"
        case ast.Concatenation(parts=parts):
            return "".join(f"(?:{pattern(part)})" for part in parts)
        case ast.Choice(parts=parts):
            return "(?:" + "|".join(f"(?:{pattern(part)})" for part in parts) + ")" if parts else "(?!)"
        case ast.Repeat(part=part, minimum=minimum, maximum=maximum):
            return f"(?:{pattern(part)}){{{minimum},{'' if maximum is None else maximum}}}"
        case _:
            raise AssertionError(node)


def nodes() -> st.SearchStrategy[ast.Node]:
    leaves = st.sampled_from(
        [A, B, C, ast.Literal(b"ab"), ast.Literal(b""), ast.Characters(((97, 98),)), ast.Characters(((98, 0xE9),))]
    )

    def larger(inner: st.SearchStrategy[ast.Node]) -> st.SearchStrategy[ast.Node]:
        several = st.lists(inner, max_size=3).map(tuple)
        counts = st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 3)))
        return st.one_of(
            several.map(ast.Concatenation),
            several.map(ast.Choice),
            st.builds(lambda part, c: ast.Repeat(part, c[0], None if c[1] is None else c[0] + c[1]), inner, counts),
        )

    return st.recursive(leaves, larger, max_leaves=8)


TEXTS = st.text("abcé", max_size=8)


@settings(max_examples=300, deadline=None)
@given(nodes(), st.lists(TEXTS, min_size=1, max_size=8))
def test_it_accepts_what_re_accepts(node: ast.Node, texts: list[str]) -> None:
    machine = automaton(node)
    expression = re.compile(pattern(node))
    for text in texts:
        assert matches(machine, text.encode()) == bool(expression.fullmatch(text))


@settings(max_examples=200, deadline=None)
@given(nodes(), nodes(), st.lists(TEXTS, min_size=1, max_size=8))
def test_products_are_difference_and_intersection(left: ast.Node, right: ast.Node, texts: list[str]) -> None:
    minus, both = automaton(ast.Difference(left, right)), automaton(ast.Intersection(left, right))
    in_left, in_right = re.compile(pattern(left)), re.compile(pattern(right))
    for text in texts:
        one, two = bool(in_left.fullmatch(text)), bool(in_right.fullmatch(text))
        assert matches(minus, text.encode()) == (one and not two)
        assert matches(both, text.encode()) == (one and two)


@pytest.mark.parametrize("product", [ast.Difference, ast.Intersection])
@settings(max_examples=100, deadline=None)
@given(nodes(), nodes())
def test_a_product_has_no_dead_end(product: Callable[..., ast.Node], left: ast.Node, right: ast.Node) -> None:
    """Where a byte was let through, an end can be reached: a product that is empty from some place on is cut there."""
    machine = automaton(ast.Concatenation((product(left, right), C)))
    reached, todo = {machine.start}, [machine.start]
    back: dict[int, set[int]] = {}
    while todo:
        config = todo.pop()
        for following in set(machine.row(config).tolist()) - {0}:
            back.setdefault(following, set()).add(config)
            if following not in reached:
                reached.add(following)
                todo.append(following)
        assert len(reached) < 300
    alive = [config for config in reached if machine.is_accepting(config)]
    useful = set(alive)
    while alive:
        for config in back.get(alive.pop(), set()) - useful:
            useful.add(config)
            alive.append(config)
    assert reached - useful <= {machine.start}  # of an empty language not even the first byte is let through


def test_recursion_has_no_depth_limit() -> None:
    rules = {
        "list": ast.Concatenation((ast.Literal(b"["), ast.Repeat(ast.RuleRef("list"), 0, None), ast.Literal(b"]")))
    }
    machine = Automaton(ast.Grammar(ast.RuleRef("list"), rules.__getitem__))
    assert matches(machine, b"[" * 5000 + b"]" * 5000)
    assert not matches(machine, b"[" * 500 + b"]" * 499)


def test_rules_are_asked_for_once_and_only_on_the_way() -> None:
    asked: list[object] = []

    def rule(name: object) -> ast.Node:
        asked.append(name)
        return {"x": ast.Concatenation((A, ast.RuleRef("y"))), "y": B, "z": C}[str(name)]

    machine = Automaton(ast.Grammar(ast.Choice((ast.RuleRef("x"), ast.Concatenation((B, ast.RuleRef("z"))))), rule))
    assert asked == ["x"]
    assert matches(machine, b"ab")
    assert matches(machine, b"ab")
    assert asked.count("y") == 1
    assert matches(machine, b"bc")
    assert sorted(map(str, asked)) == ["x", "y", "z"]


def test_a_tail_call_costs_no_stack() -> None:
    rules = {"loop": ast.Choice((ast.Concatenation((A, ast.RuleRef("loop"))), B))}
    machine = Automaton(ast.Grammar(ast.RuleRef("loop"), rules.__getitem__))
    assert matches(machine, b"a" * 3000 + b"b")
    assert machine.tables.counts[COUNT.num_stacks] < 4


def test_large_counts_are_counted() -> None:
    machine = automaton(ast.Repeat(ast.Characters(((0, 0xD7FF), (0xE000, 0x10FFFF))), 1000, 2000))
    assert not matches(machine, "é".encode() * 999)
    assert matches(machine, "é".encode() * 1000)
    assert matches(machine, "é".encode() * 2000)
    assert not matches(machine, "é".encode() * 2001)
    assert machine.num_states < 30


def test_ambiguity_is_bounded() -> None:
    nested = ast.Repeat(ast.Repeat(ast.Repeat(A, 0, 200), 0, 200), 0, 200)
    machine = Automaton(ast.Grammar(nested, no_rules), Limits(closure=2000, items=20_000))
    with pytest.raises(LimitError):
        machine.step_bytes(machine.start, b"a" * 3000)


def test_equal_alternatives_do_not_multiply() -> None:
    machine = automaton(ast.Concatenation((ast.Repeat(ast.Choice((A, A)), 0, None), B)))
    assert matches(machine, b"a" * 5000 + b"b")
    assert machine.num_configurations < 6


def test_many_choices() -> None:
    words = [f"choice number {number * 7919 % 10_000}".encode() for number in range(10_000)]
    machine = automaton(ast.Choice(tuple(map(ast.Literal, words))))
    assert all(matches(machine, word) for word in words[::97])
    assert not matches(machine, b"choice number 10000")


def test_deep_nesting_of_nodes() -> None:
    node: ast.Node = A
    for _ in range(5000):
        node = ast.Choice((ast.Concatenation((node,)), B))
    assert matches(automaton(node), b"a")


def test_specials_are_not_bytes() -> None:
    machine = automaton(ast.Concatenation((A, ast.Special("<|end|>"), B)))
    after = machine.step_bytes(machine.start, b"a")
    assert machine.step_bytes(after, b"<") == 0
    [symbol] = machine.special_symbols(after)
    assert machine.is_accepting(machine.step_bytes(machine.step_special(after, symbol), b"b"))
    assert machine.special_symbols(machine.start) == []


FORKED = """
import os
from stemma.fsm.regex import Regex
from stemma.fsm.automaton.automaton import Automaton

def matches(data):
    return machine.is_accepting(machine.step_bytes(machine.start, data))

machine = Automaton(Regex("foo|bar").grammar())
may_read, may_write = os.pipe()
child = os.fork()
if not child:
    os.read(may_read, 1)
    os._exit(not (matches(b"bar") and matches(b"foo")))
assert matches(b"foo")
os.write(may_write, b"x")
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert matches(b"foo") and matches(b"bar") and not matches(b"far")
"""


def test_a_forked_process_has_tables_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in memory")
def test_what_others_touched_takes_no_memory_in_new_tables() -> None:
    """Thousands of grammars come and go in a server: each must take what it touches and give it back."""
    script = """
import mmap
from pathlib import Path
from stemma.fsm.kernels.tables import Limits, new_tables, grown_tables, FULL_ITEMS, FULL_STACKS, FULL_PRODUCTS

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

def all_touched():
    tables = new_tables(Limits())
    for full in (FULL_ITEMS, FULL_STACKS, FULL_PRODUCTS):
        tables = grown_tables(tables, full, Limits())
    for array in tables:
        array[...] = 1
    return tables

before = resident()
for _ in range(3):
    touched = [all_touched() for _ in range(4)]
    fresh = [new_tables(Limits()) for _ in range(4)]
    del touched
    fresh += [new_tables(Limits()) for _ in range(16)]
assert resident() - before < len(fresh) * (1 << 20), (resident() - before) / len(fresh)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_automaton_in_tables_that_another_has_left_is_as_in_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare_tables, "_spares", deque(maxlen=2))
    grammars = [EBNF(AMBIGUOUS[name]).grammar() for name in ("operators", "counted", "palindromes")]

    def walked(automaton: Automaton) -> list[list[int]]:
        """The rows of the first configurations that there are: rows make more of them."""
        rows: list[list[int]] = []
        while len(rows) < min(40, automaton.num_configurations - 1):
            rows.append(automaton.row(len(rows) + 1).tolist())
        return rows

    fresh = [walked(Automaton(grammar, Limits(states=1_000_000))) for grammar in grammars]
    assert not spare_tables._spares  # not with limits of their own
    left = Automaton(grammars[0])
    walked(left)
    place = left.tables.rows.ctypes.data
    del left
    for grammar, expected in zip(grammars, fresh, strict=True):
        automaton = Automaton(grammar)
        assert automaton.tables.rows.ctypes.data == place
        assert walked(automaton) == expected
        del automaton


def test_large_tables_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare_tables, "_spares", deque(maxlen=2))
    monkeypatch.setattr(spare_tables, "MOST_BYTES", 1000)
    Automaton(EBNF(AMBIGUOUS["operators"]).grammar())
    assert not spare_tables._spares
