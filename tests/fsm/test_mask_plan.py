"""How masks are to be computed: a plan for each kind of place, the same whoever asks and whatever is known."""

from __future__ import annotations

import numpy as np
import pytest

from stemma.fsm import Vocabulary, compile
from stemma.fsm.kernels.kinds import NOT_YET
from stemma.fsm.kernels.look import DONE
from stemma.fsm.matching.mask_cache import Limited
from stemma.fsm.matching.mask_plan import Bounded, Classified, Counted, Delta, Loop, Plan, Planner, Walk
from stemma.fsm.syntax import ast
from tests.fsm.test_masks import CHARACTER, HOST, KNOWN_KEYS, LATIN, SEVERAL_TEXTS, Vocabularies, several, text

PLACES = {
    "a string": (text(0, None), b'"a', Loop),
    "a limited string": (text(0, 40), b'"a', Counted),
    "a name that must not be one of some": (
        several(b'"', ast.Difference(ast.Repeat(CHARACTER, 0, None), KNOWN_KEYS), b'"'), b'"', Delta,
    ),
    "a pattern with a largest length": (
        several(b'"', ast.Bounded(HOST, ast.Repeat(CHARACTER, 0, 30)), b'":1'), b'"ab', Bounded,
    ),
    "few ways": (several(b"true", b" ", text(0, 3)), b"", Walk),
}  # fmt: skip


def planned(node: ast.Node, before: bytes, vocabulary: Vocabulary) -> tuple[Planner, int, Plan]:
    grammar = compile(ast.Grammar(node, {}.__getitem__), vocabulary)
    planner = Planner(grammar.automaton, vocabulary, vocabulary.new_path())
    config = grammar.after(grammar.start, before)
    return planner, config, planner.plan(planner.classify(config), lambda each: planner.farthest(each)[0])


@pytest.mark.parametrize("place", PLACES)
def test_each_kind_of_place_has_its_plan(byte_vocabulary: Vocabularies, place: str) -> None:
    node, before, kind = PLACES[place]
    _, _, plan = planned(node, before, byte_vocabulary(0))
    assert type(plan) is kind


def test_a_counter_says_how_many_characters_are_left(byte_vocabulary: Vocabularies) -> None:
    _, _, plan = planned(text(0, 40), b'"abc', byte_vocabulary(0))
    assert isinstance(plan, Counted)
    assert plan.counter.remaining == 37


def test_a_plan_is_the_same_after_others_were_made(byte_vocabulary: Vocabularies) -> None:
    """What is found out about the two sides of a bounded text is not taken for what the text is like."""
    node, before, _ = PLACES["a pattern with a largest length"]
    planner, config, first = planned(node, before, byte_vocabulary(0))
    assert isinstance(first, Bounded)
    planner.classify(first.text.right)
    planner.classify(first.spare)
    again = planner.plan(planner.classify(config), lambda each: planner.farthest(each)[0])
    assert isinstance(again, Bounded)
    assert again.text == first.text
    assert again.spare == first.spare
    assert np.array_equal(again.inside, first.inside)


def looked_at(planner: Planner, vocabulary: Vocabulary, config: int) -> Classified:
    out = np.zeros(vocabulary.num_words, np.uint32)
    while (looked := planner.look(config, out, vocabulary.twins)) == NOT_YET:
        planner._automaton.provide()
    return planner.classify(config) if looked == DONE else planner.seen(config)


def test_texts_that_are_told_apart_later_are_taken_apart(byte_vocabulary: Vocabularies) -> None:
    """No part is the whole, and together they have all its items and no others."""
    vocabulary = byte_vocabulary(0)
    planner, config, _ = planned(SEVERAL_TEXTS, b'"ab', vocabulary)
    automaton = planner._automaton
    parts = looked_at(planner, vocabulary, config).parts
    items = [set(automaton.tables.items[automaton.items_of(part)].tolist()) for part in parts]
    whole = set(automaton.tables.items[automaton.items_of(config)].tolist())
    assert len(parts) >= 3
    assert set().union(*items) == whole
    assert all(part < whole for part in items)


def test_what_may_be_anything_by_now_is_the_only_part(byte_vocabulary: Vocabularies) -> None:
    """Behind what was searched for, a text that may be anything reads all that a further search would."""
    vocabulary = byte_vocabulary(0)
    searched = several(b'"', ast.Repeat(CHARACTER, 0, None), LATIN, ast.Repeat(CHARACTER, 0, None), b'"')
    planner, config, _ = planned(searched, b'"the', vocabulary)
    [part] = looked_at(planner, vocabulary, config).parts
    automaton = planner._automaton
    items = [set(automaton.tables.items[automaton.items_of(each)].tolist()) for each in (part, config)]
    assert items[0] < items[1]
    before = automaton.step_bytes(automaton.start, b'"')
    assert not looked_at(planner, vocabulary, before).parts


@pytest.mark.parametrize("place", PLACES)
def test_one_text_is_left_whole(byte_vocabulary: Vocabularies, place: str) -> None:
    node, before, _ = PLACES[place]
    vocabulary = byte_vocabulary(0)
    planner, config, _ = planned(node, before, vocabulary)
    assert not looked_at(planner, vocabulary, config).parts


def test_what_is_kept_is_limited() -> None:
    masks: Limited[int, str] = Limited(2)
    for number in range(5):
        assert masks.keep(number, str(number)) == str(number)
        assert len(masks) <= 2
    assert masks == {4: "4"}
