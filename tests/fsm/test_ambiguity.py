"""Ambiguous grammars: long texts in bounded work, completions that are shortest, histories that fork and roll back."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.ebnf import EBNF
from stemma.fsm.errors import LimitError
from stemma.fsm.kernels.columns import CONFIG, COUNT
from stemma.fsm.kernels.tables import Limits
from stemma.fsm.syntax import ast
from tests.fsm.ambiguous import AMBIGUOUS

Vocabularies = Callable[[int], Vocabulary]
LETTERS = {"operators": "ab+ (;-)\n", "dangling": "ie", "turns": "[ab]"}


def walked(machine: Automaton, name: str, length: int) -> list[tuple[int, int]]:
    """Items of each configuration on a walk, and the states that each step looked at."""
    draw, config, found = random.Random(name), machine.start, []
    for _ in range(length):
        allowed = [ord(each) for each in LETTERS.get(name, "ab,") if machine.step(config, ord(each))]
        if not allowed:
            break
        before = int(machine.tables.counts[COUNT.work])
        config = machine.step(config, draw.choice(allowed))
        machine.row(config)
        found.append(
            (int(machine.tables.configs[config, CONFIG.size]), int(machine.tables.counts[COUNT.work]) - before)
        )
    return found


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_items_stay_few_and_work_does_not_explode(name: str) -> None:
    """Each step looks at no more states than some for each position before it, and no state has many items."""
    machine = Automaton(EBNF(AMBIGUOUS[name]).grammar())
    steps = walked(machine, name, 100)
    assert len(steps) > 30
    assert max(items for items, _ in steps) < 200
    for position, (_, work) in enumerate(steps):
        assert work < 20_000 + 500 * position


def test_statements_with_operators_come_back_to_where_they_were() -> None:
    machine = Automaton(EBNF(AMBIGUOUS["operators"]).grammar())
    text = b"a+b-c(d e)*f;g h\n-i<(j)=k" * 40
    assert machine.is_accepting(machine.step_bytes(machine.start, text))
    assert machine.num_configurations < 200
    assert machine.tables.counts[COUNT.num_stacks] < 200


@pytest.mark.parametrize("name", ["three at once", "not at an end", "lists", "palindromes", "dangling"])
def test_long_texts_are_read_exactly(name: str) -> None:
    """Against what is known of these languages."""
    machine = Automaton(EBNF(AMBIGUOUS[name]).grammar())
    draw = random.Random(name)
    for _ in range(60):
        text = "".join(draw.choices({"dangling": "iiexx", "lists": "aaab,"}.get(name, "ab"), k=draw.randint(0, 40)))
        if name == "palindromes" and draw.random() < 0.7:
            text += draw.choice([text, text[:-1]])[::-1]
        config = machine.step_bytes(machine.start, text.encode())
        assert (bool(config) and machine.is_accepting(config)) == KNOWN[name](text)


def is_list(text: str) -> bool:
    """At most three commas; each b behind an a."""
    return text.count(",") <= 3 and all(
        text[place - 1 : place] == "a" for place, each in enumerate(text) if each == "b"
    )


def is_conditional(text: str) -> bool:
    """A statement, and nothing behind it: `i` needs one more, `e` takes one `i` that has had its statement."""
    open_ifs = 0
    wants = True
    for each in text:
        if wants != (each in "ix"):
            return False
        if each == "i":
            open_ifs += 1
        elif each == "e":
            if not open_ifs:
                return False
            open_ifs -= 1
        wants = each != "x"
    return not wants


KNOWN: dict[str, Callable[[str], bool]] = {
    "three at once": lambda text: set(text) <= {"a"},
    "not at an end": lambda text: True,
    "lists": is_list,
    "palindromes": lambda text: text == text[::-1],
    "dangling": is_conditional,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_completions_are_accepted_and_shortest(name: str, byte_vocabulary: Vocabularies) -> None:
    vocabulary = byte_vocabulary(0)
    grammar = compile(EBNF(AMBIGUOUS[name]), vocabulary)
    draw = random.Random(name)
    for _ in range(6):
        matcher = Matcher(grammar)
        for _ in range(draw.randint(0, 14)):
            allowed = [byte for byte in grammar.next_bytes(matcher.config) if chr(byte) in LETTERS.get(name, "ab,")]
            if allowed:
                assert matcher.advance(draw.choice(allowed))
        tokens = matcher.shortest_completion()
        assert tokens is not None
        length = sum(len(vocabulary.token_bytes[token]) for token in tokens)
        assert not any(is_end(grammar.automaton, matcher.config, size) for size in range(min(length, 4)))
        for token in tokens:
            assert matcher.advance(token)
        assert matcher.is_complete


def is_end(machine: Automaton, config: int, size: int) -> bool:
    """Whether some text of `size` bytes completes `config`."""
    reached = {config}
    for _ in range(size):
        reached = set(itertools.chain.from_iterable(machine.row(each).tolist() for each in reached)) - {0}
    return any(machine.is_accepting(each) for each in reached)


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_forks_and_rollbacks_come_back_to_the_same_configuration(name: str, byte_vocabulary: Vocabularies) -> None:
    grammar = compile(EBNF(AMBIGUOUS[name]), byte_vocabulary(0))
    draw = random.Random(name)
    matcher, history = Matcher(grammar), [grammar.start]
    for _ in range(60):
        allowed = [byte for byte in grammar.next_bytes(matcher.config) if chr(byte) in LETTERS.get(name, "ab,")]
        if not allowed or draw.random() < 0.2:
            back = draw.randint(0, min(3, len(history) - 1))
            other = matcher.fork()
            matcher.rollback(back)
            assert other.config == history[-1]
            del history[len(history) - back :]
        else:
            assert matcher.advance(draw.choice(allowed))
            history.append(matcher.config)
        assert matcher.config == history[-1]


def test_what_begins_with_itself_in_a_bare_grammar_is_a_limit_and_not_a_hang() -> None:
    """Front ends rewrite left recursion; whoever hands over rules as they are is told."""
    rules = {"x": ast.Choice((ast.Concatenation((ast.RuleRef("x"), ast.Literal(b"a"))), ast.Literal(b"b")))}
    with pytest.raises(LimitError, match="left recursion"):
        Automaton(ast.Grammar(ast.RuleRef("x"), rules.__getitem__), Limits(closure=2000))
