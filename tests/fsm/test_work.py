"""Limits in steps: who asks for too much work gets a typed error, the same on any machine, and can go on with what was
found out."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable

import numpy as np
import pytest

from stemma.fsm import LimitError, Limits, Matcher, Vocabulary, compile
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.regex import Regex
from stemma.fsm.work import count_work, work_limit


def test_what_was_done_without_a_limit_does_not_count_in_one() -> None:
    count_work(10**12)
    with work_limit(3):
        count_work(3)
        with pytest.raises(LimitError):
            count_work(1)


def test_an_outer_limit_holds_inside_a_wider_one() -> None:
    with work_limit(3), work_limit(100):
        count_work(3)
        with pytest.raises(LimitError, match=r"Limits\.work"):
            count_work(1)
    count_work(1)


def test_what_is_done_inside_counts_outside() -> None:
    with work_limit(10):
        for _ in range(2):
            with work_limit(6):
                count_work(5)
        with pytest.raises(LimitError):
            count_work(1)


@pytest.mark.parametrize("schema", [{"type": "object", "properties": {"a": {}}}, {"anyOf": [{"type": "null"}, {}]}])
def test_no_work_to_compile(schema: dict[str, object], byte_vocabulary: Callable[[int], Vocabulary]) -> None:
    with pytest.raises(LimitError, match=r"Limits\.work"):
        mask_into_row(JSONSchema(schema), byte_vocabulary(0), Limits(work=0))


def test_a_mask_is_computed_after_one_that_took_too_much(byte_vocabulary: Callable[[int], Vocabulary]) -> None:
    grammar = compile(JSONSchema({"type": "object", "properties": {"a": {"type": "string"}}}), byte_vocabulary(0))
    matcher = Matcher(grammar)
    row = np.zeros(grammar.vocabulary.num_words, np.uint32)
    with work_limit(0), pytest.raises(LimitError):
        matcher.mask_into(row)
    matcher.mask_into(row)
    assert row.any()


def test_what_fits_does_not_depend_on_the_clock(
    byte_vocabulary: Callable[[int], Vocabulary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine on which every look at the clock comes an hour later compiles the same."""
    hours = itertools.count(step=3600.0)
    for clock in ("monotonic", "perf_counter", "time", "process_time", "thread_time"):
        monkeypatch.setattr(time, clock, lambda: next(hours))
    mask_into_row(
        JSONSchema({"anyOf": [{"required": ["a"]}, {"type": "string", "pattern": "a+b"}]}), byte_vocabulary(0), Limits()
    )


@pytest.mark.parametrize("work", [100, 300, 1_000])
def test_the_same_work_is_refused_or_not_each_time(work: int, byte_vocabulary: Callable[[int], Vocabulary]) -> None:
    schema = {
        "properties": {f"p{i}": {"anyOf": [{"minimum": i}, {"maxLength": i}]} for i in range(9)},
        "minProperties": 3,
    }
    outcomes = set()
    for _ in range(3):
        try:
            mask_into_row(JSONSchema(schema), byte_vocabulary(0), Limits(work=work))
            outcomes.add("fits")
        except LimitError:
            outcomes.add("refused")
    assert len(outcomes) == 1


def mask_into_row(form: JSONSchema, vocabulary: Vocabulary, limits: Limits) -> None:
    matcher = Matcher(compile(form, vocabulary, limits))
    matcher.mask_into(np.zeros(vocabulary.num_words, np.uint32))


@pytest.mark.parametrize(
    "pattern",
    [
        r"((((a\b){0,8}){0,8}){0,8}){0,8}",
        r"(((((?=a)a){0,8}){0,8}){0,8}){0,8}",
        r"((?:a\b|b\B|c\b){8}){8}",
        r"(((((a?+b?+)?){8}){8}){8}){8}",
        r"(?:\b|a)" * 25,
        r"(?:a\b |b\B)" * 40,
        "(?:^|,)a" * 40,
        r"a\b" * 500,
        "(?:(?!ab)[a-z])" * 2000,
    ],
)
def test_surroundings_in_more_ways_than_can_be_gone(pattern: str, byte_vocabulary: Callable[[int], Vocabulary]) -> None:
    with pytest.raises(LimitError):
        compile(Regex(pattern), byte_vocabulary(256), Limits(work=100_000))


@pytest.mark.parametrize(
    "pattern",
    ["(?:a(?!b)|b(?!c)|c(?!a))" * 60, "(?:a(?!b)|b|c)" * 60, "((a?+b?+)?){8}"],
    ids=["ahead", "beside", "rest"],
)
def test_what_alternatives_share_is_gone_through_once(
    pattern: str, byte_vocabulary: Callable[[int], Vocabulary]
) -> None:
    grammar = compile(Regex(pattern), byte_vocabulary(256), Limits(work=1_000_000))
    for text in ("a" * 60, "ac" * 30, "ab" * 30, "cb" * 30, "a" * 59, "abab", ""):
        matcher = Matcher(grammar)
        whole = all(matcher.advance(byte) for byte in text.encode()) and matcher.is_complete
        assert whole == bool(re.fullmatch(pattern, text)), text
