"""A value from outside becomes plain Python of the type that is written for it, or is refused with its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from stemma.runtime.core.checking import check_fields, check_function, check_list, checked, describe
from stemma.runtime.errors import InvalidRequest


class Hostile:
    """Nothing can be asked of it."""

    def __getattr__(self, name):
        raise ZeroDivisionError(name)

    __repr__ = __len__ = __iter__ = __float__ = __int__ = __index__ = __bool__ = __hash__ = __getattr__


class Text(str):
    def __str__(self):
        return "another"


Color = Literal["red", "green"]
TAKEN = [
    (bool, np.True_, True), (int, np.uint8(3), 3), (int, 2**80, 2**80), (float, 3, 3.0), (float, np.float32(0.5), 0.5),
    (str, np.str_("ab"), "ab"), (str, Text("ab"), "ab"), (Path, "a/b", Path("a/b")), (int | None, None, None),
    (int | str, "3", "3"), (Color, "red", "red"), (Mapping[int, float], {np.int8(1): 2}, {1: 2.0}),
    (tuple[int, ...], 3, (3,)), (tuple[int, ...], np.array([1, 2]), (1, 2)), (tuple[str, ...], {"x"}, ("x",)),
    (Sequence[str], "ab", ["ab"]), (Sequence[str], ("a", "b"), ["a", "b"]), (tuple[int, ...], [], ()),
]  # fmt: skip
REFUSED = [
    (bool, 1), (int, True), (int, np.True_), (int, 3.0), (int, "3"), (float, "1"), (float, True), (float, 10**400),
    (float, None), (str, b"ab"), (str, 3), (Path, 3), (int | None, "x"), (Color, "blue"), (Color, 1), (Color, None),
    (Mapping[int, float], {"1": 2.0}), (Mapping[int, float], {1: "2"}), (Mapping[int, float], [(1, 2.0)]),
    (tuple[int, ...], ["1"]), (tuple[int, ...], b"ab"), (tuple[str, ...], ["x", 3]), (tuple[int, ...], {1: 2}),
    (tuple[int, ...], None), (np.ndarray, [1]), (str, "\ud83d"), (tuple[str, ...], ["a", "b\udc80"]),
]  # fmt: skip


def named(value):
    """A test's name: the same in every process, without addresses."""
    return "hostile" if type(value) is Hostile else ascii(value)


@pytest.mark.parametrize(("kind", "value", "plain"), TAKEN, ids=str)
def test_what_is_meant_is_taken_as_plain_python(kind, value, plain):
    got = checked(value, kind, "x")
    assert got == plain
    assert type(got) is type(plain)
    if isinstance(plain, list | tuple):
        assert list(map(type, got)) == list(map(type, plain))


@pytest.mark.parametrize(("kind", "value"), [*REFUSED, *((kind, Hostile()) for kind, _, _ in TAKEN)], ids=named)
def test_what_is_of_another_type_is_refused_by_name(kind, value):
    with pytest.raises(InvalidRequest, match=r"^x must be ") as refused:
        checked(value, kind, "x")
    assert refused.value.param == "x"
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int | None, "a whole number or None"),
        (Color, "one of 'red', 'green'"),
        (tuple[str, ...], "a list, each of which is a text of whole characters"),
        (Mapping[int, float], "a mapping, each key a whole number and each value a number"),
    ],
    ids=str,
)
def test_a_message_says_what_would_do(kind, name):
    with pytest.raises(InvalidRequest) as refused:
        checked(1.5, kind, "x")
    assert str(refused.value) == f"x must be {name}; it is 1.5"


def test_fields_of_a_dataclass_become_plain_and_are_refused_by_their_names():
    @dataclass(frozen=True)
    class Made:
        count: int
        bias: Mapping[int, float] = field(default_factory=dict)

        def __post_init__(self):
            check_fields(self)

    made = Made(np.int32(3), {np.int64(1): np.float16(0.5)})
    assert (type(made.count), made.bias) == (int, {1: 0.5})
    with pytest.raises(InvalidRequest) as refused:
        Made(3, {1: None})
    assert refused.value.param == "bias"


@pytest.mark.parametrize("value", ["ab", b"ab", {1, 2}, {1: 2}, iter([1]), 3, None])
def test_no_list_is_refused(value):
    with pytest.raises(InvalidRequest) as refused:
        check_list(value, "prompts")
    assert refused.value.param == "prompts"


def test_lists_and_functions_are_let_through():
    for value in ([Hostile()], (), np.zeros(3)):
        assert check_list(value, "prompts") is None
    assert check_function(len, "look") is None
    with pytest.raises(InvalidRequest) as refused:
        check_function(3, "look")
    assert refused.value.param == "look"


def test_any_value_can_be_described_in_a_line():
    assert describe([1, 2]) == "[1, 2]"
    assert re.fullmatch("<Hostile instance at 0x[0-9a-f]+>", describe(Hostile()))
    assert describe(10**5000) == "a value of type int"
    assert len(describe("x" * 10**6)) < 100
