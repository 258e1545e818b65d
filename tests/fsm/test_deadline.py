"""Time limits: whoever takes too long gets a typed error, and can go on with what was found out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stemma.fsm import LimitError, Limits, Matcher, Vocabulary, compile
from stemma.fsm.deadline import check_time, time_limit
from stemma.fsm.json_schema import JSONSchema


def test_nothing_is_checked_without_a_limit() -> None:
    check_time()


def test_an_outer_limit_holds_inside_a_wider_one() -> None:
    with time_limit(0.0), time_limit(100.0), pytest.raises(LimitError, match=r"Limits\.seconds"):
        check_time()
    check_time()


@pytest.mark.parametrize("schema", [{"type": "object", "properties": {"a": {}}}, {"anyOf": [{"type": "null"}, {}]}])
def test_no_time_to_compile(schema: dict[str, object], byte_vocabulary: Callable[[int], Vocabulary]) -> None:
    with pytest.raises(LimitError, match=r"Limits\.seconds"):
        mask_into_row(JSONSchema(schema), byte_vocabulary(0), Limits(seconds=0.0))


def test_a_mask_is_computed_after_one_that_took_too_long(byte_vocabulary: Callable[[int], Vocabulary]) -> None:
    grammar = compile(JSONSchema({"type": "object", "properties": {"a": {"type": "string"}}}), byte_vocabulary(0))
    matcher = Matcher(grammar)
    row = np.zeros(grammar.vocabulary.num_words, np.uint32)
    with time_limit(0.0), pytest.raises(LimitError):
        matcher.mask_into(row)
    matcher.mask_into(row)
    assert row.any()


def mask_into_row(form: JSONSchema, vocabulary: Vocabulary, limits: Limits) -> None:
    matcher = Matcher(compile(form, vocabulary, limits))
    matcher.mask_into(np.zeros(vocabulary.num_words, np.uint32))
