"""Random grammars, ambiguous and recursive in every way, against the languages that their rules say, enumerated."""

from __future__ import annotations

import itertools
import random

import pytest

from stemma.fsm.automaton import automaton
from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.ebnf import EBNF
from stemma.fsm.errors import GrammarError, LimitError
from stemma.fsm.kernels import closure, configurations, stacks
from stemma.fsm.kernels.columns import COUNT
from stemma.fsm.kernels.loader import PLAIN

LENGTH = 5
TEXTS = ["".join(letters) for size in range(LENGTH + 1) for letters in itertools.product("ab", repeat=size)]
Parts = list[tuple[str, str]]  # what is read or called, and how often
Rules = dict[str, list[Parts]]


def drawn(draw: random.Random, names: list[str], most_ways: int) -> Rules:
    return {
        name: [
            [(draw.choice([*names, '"a"', '"b"']), draw.choice(["", "", "", "?", "*", "+", "{2}"]))
             for _ in range(draw.choice([0, 1, 1, 2, 2, 2, 3]))]
            for _ in range(draw.randint(1, most_ways))
        ]
        for name in names
    }  # fmt: skip


def written(rules: Rules) -> str:
    return "\n".join(
        f"{name} ::= " + " | ".join(" ".join(part + sign for part, sign in parts) or '""' for parts in ways)
        for name, ways in rules.items()
    )


def language(rules: Rules) -> set[str]:
    """All texts of `root` up to a length: the least sets that the rules allow."""
    known: dict[str, set[str]] = {name: set() for name in rules} | {'"a"': {"a"}, '"b"': {"b"}}
    while True:
        found = {name: {text for parts in ways for text in joined(parts, known)} for name, ways in rules.items()}
        if all(found[name] <= known[name] for name in rules):
            return known["root"]
        for name in rules:
            known[name] |= found[name]


def joined(parts: Parts, known: dict[str, set[str]]) -> set[str]:
    texts = {""}
    for part, sign in parts:
        once = after(texts, known[part])
        if sign == "?":
            texts |= once
        elif sign == "{2}":
            texts = after(once, known[part])
        elif sign:
            texts = (texts if sign == "*" else set()) | once
            while more := after(once, known[part]) - texts:
                texts, once = texts | more, more
        else:
            texts = once
    return texts


def after(texts: set[str], further: set[str]) -> set[str]:
    return {text + more for text in texts for more in further if len(text) + len(more) <= LENGTH}


def check(rules: Rules) -> None:
    expected = language(rules)
    try:
        machine = Automaton(EBNF(written(rules)).grammar())
    except LimitError:
        raise AssertionError(written(rules)) from None
    except GrammarError:
        assert not expected, written(rules)
        return
    read = {text for text in TEXTS if machine.is_accepting(machine.step_bytes(machine.start, text.encode()))}
    assert read == expected, written(rules)


@pytest.mark.parametrize("seed", range(6))
def test_the_automaton_reads_what_the_rules_say(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(40):
        check(drawn(draw, ["root", "x", "y", "z", "w"][: draw.randint(1, 5)], 3))


@pytest.mark.parametrize("calls", [0, 3, 12])
def test_it_does_so_however_soon_calls_and_stacks_are_shared(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automaton, "kernels", lambda: PLAIN)  # plain kernels see what is patched
    monkeypatch.setattr(closure, "MANY_CALLS", calls)
    monkeypatch.setattr(configurations, "MANY", 1)
    monkeypatch.setattr(stacks, "MANY", 1)
    draw = random.Random(calls)
    for _ in range(40):
        check(drawn(draw, ["root", "x", "y"][: draw.randint(1, 3)], 2))


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        ('root ::= "q" []', 1, "root"),
        ('root ::= "a" root', 1, "root"),
        ("root ::= []", 1, "root"),
        ('root ::= "a" bad\nbad ::= "b" bad', 2, "bad"),
        ('root ::= "a" one\none ::= "b" two\ntwo ::= "c" one', 3, "two"),
        ("root ::= b\nb ::= c\nc ::= b", 3, "c"),
        ('root ::= "x"? root "y"', 1, "root"),
        ('root ::= one{2}\none ::= [^\\x00-\\U0010ffff]', 2, "one"),
    ],
)  # fmt: skip
def test_what_can_never_end_is_named(text: str, line: int, name: str) -> None:
    with pytest.raises(GrammarError, match=f"line {line}: no text fulfils the rule '{name}'"):
        EBNF(text).grammar()


def test_an_alternative_that_can_never_end_is_left_out() -> None:
    grammar = EBNF('root ::= "a" | "a" bad | bad? "c"\nbad ::= "b" bad').grammar()
    machine = Automaton(grammar)
    assert [bytes([byte]) for byte in range(256) if machine.step(machine.start, byte)] == [b"a", b"c"]
    assert not machine.row(machine.step(machine.start, ord("a"))).any()


def test_operators_take_no_room() -> None:
    """However long the text, an expression of operators is where it was."""
    grammar = EBNF('root ::= root [-+*] root | "-" root | root "!" | "(" root ")" | [0-9]').grammar()
    machine = Automaton(grammar)
    assert machine.is_accepting(machine.step_bytes(machine.start, b"1" + b"+2*-3!" * 500))
    assert machine.num_configurations < 20
    assert machine.tables.counts[COUNT.num_stacks] < 20
