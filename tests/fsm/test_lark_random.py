"""Random Lark grammars whose terminals look ahead, against lark's own Earley parser."""

from __future__ import annotations

import itertools
import random
import re
import warnings

import lark
import pytest

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.errors import FormError
from stemma.fsm.lark import Lark

NUM_GRAMMARS = 24
TEXTS = ["".join(letters) for length in range(5) for letters in itertools.product("abc", repeat=length)]
IGNORED = ('" "', "/ +/", "/ (?!b)/", "/c+(?=b)/", "/c+(?!a)/")
LOOKS = ("(?!a)", "(?=b)", "(?!bc)", "(?= *c)", "(?=b|$)", "$", r"\b", "")


def pattern(chance: random.Random, depth: int, may_look: bool = True) -> str:
    kind = chance.randrange(8 if may_look else 6)
    if depth <= 0 or kind == 0:
        return chance.choice(["a", "b", "c", "[ab]", ".", "[^a]", "[bc]"])
    inner = pattern(chance, depth - 1, may_look)
    if kind == 1:
        return inner + pattern(chance, depth - 1, may_look)
    if kind == 2:
        return f"(?:{inner}|{pattern(chance, depth - 1, may_look)})"
    if kind in (3, 4):
        return f"(?:{inner})" + chance.choice(["*", "+", "?", "*?", "+?", "??", "{1,2}", "{2}"])
    if kind == 5:
        return f"(?:{inner})" + chance.choice(["", "?", "+?"])
    return ("(?=" if kind == 6 else "(?!") + pattern(chance, depth - 2, False) + ")"


def terminal(chance: random.Random) -> str:
    """A pattern that re reads and that does not match nothing."""
    while True:
        made = chance.choice((
            lambda: pattern(chance, 3),
            lambda: pattern(chance, 2) + chance.choice(LOOKS),
            lambda: f"(?!{pattern(chance, 1, False)}{chance.choice(['', '$'])})(?:{pattern(chance, 2, False)})+",
        ))()  # fmt: skip
        try:
            re.compile(made)
            if lark.utils.get_regexp_width(made)[0]:
                return made
        except (re.error, ValueError):
            continue


def grammar(chance: random.Random) -> str:
    names = [f"T{number}" for number in range(chance.randint(1, 3))]
    symbols = [*names, '"a"', '"b"', '"c"', "x", "y"]

    def expression(depth: int) -> str:
        kind = chance.randrange(5)
        if depth == 0 or kind == 0:
            return chance.choice(symbols)
        if kind < 3:
            return f"{expression(depth - 1)} {expression(depth - 1)}"
        if kind == 3:
            return f"({expression(depth - 1)})" + chance.choice(["*", "?", "+", "~1..2"])
        return f"({expression(depth - 1)} | {expression(depth - 1)})"

    lines = [f"{name}: /{terminal(chance)}/" for name in names]
    lines += [
        f"start: {expression(3)}",
        f"x: {expression(2)} | {chance.choice(names)}",
        f'y: "c" {expression(1)} | "b"',
    ]
    if chance.random() < 0.35:
        lines.append(f"%ignore {chance.choice(IGNORED)}")
    return "\n".join(lines)


def accepts(parser: lark.Lark, text: str) -> bool | None:
    """None where lark fails inside, as it does where what is ignored may also end the text."""
    try:
        parser.parse(text)
    except lark.exceptions.UnexpectedInput:
        return False
    except (RuntimeError, AssertionError):
        return None
    return True


def read(text_of: str) -> tuple[Automaton | None, str]:
    """A grammar's automaton, or what it was refused for."""
    try:
        return Automaton(Lark(text_of).grammar()), ""
    except FormError as refused:
        return None, str(refused)


@pytest.mark.parametrize("seed", range(NUM_GRAMMARS))
def test_random_grammars_are_read_as_lark_reads_them(seed: int) -> None:
    chance = random.Random(seed)
    text_of = grammar(chance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs = lark.Lark(text_of, parser="earley", lexer="dynamic_complete")
        except lark.exceptions.LarkError:
            theirs = None
    if theirs is None:
        pytest.skip("lark refuses it, as it does what nothing calls")
    texts = TEXTS + ["".join(chance.choices("abc ", k=chance.randint(2, 8))) for _ in range(30)]
    ours, refusal = read(text_of)
    if ours is None:
        assert "no text fulfils" in refusal, (refusal, text_of)
        assert not any(accepts(theirs, text) for text in texts), text_of
        return
    for text in texts:
        expected = accepts(theirs, text)
        if expected is not None:
            found = ours.is_accepting(ours.step_bytes(ours.start, text.encode()))
            assert found == expected, (text, text_of)
