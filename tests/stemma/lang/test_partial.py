"""Values while they are said: at every cut, what is closed is final, and what is open is known."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import TypedDict

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from stemma.lang.programs.placeholder import placeholder
from stemma.lang.states.state import State
from stemma.lang.values.partial import JSONScanner, Parts, built
from stemma.runtime.engine.forms import form_of


class Inner(BaseModel):
    day: datetime.date
    words: list[str]


class Outer(BaseModel):
    name: str
    inner: Inner
    count: int = Field(alias="number")


TEXT = '{"name":"A\\"da","inner":{"day":"2026-01-02","words":["a","b\\\\"]},"number":12}'


def parts(form, text, size=1):
    maker = Parts(form_of(form))
    return [maker.add(text[at : at + size]) for at in range(0, len(text), size)]


def test_fields_close_one_after_the_other():
    seen = {}
    for part in parts(Outer, TEXT):
        seen.setdefault(part.open, part.so_far)
    assert list(seen) == [
        (), ("name",), ("inner",), ("inner", "day"), ("inner", "words"), ("inner", "words", 0), ("inner", "words", 1),
        ("number",), None,
    ]  # fmt: skip


def test_closed_fields_are_validated_and_open_ones_are_what_was_said():
    made = parts(Outer, TEXT)
    at_words = next(part for part in made if part.open == ("inner", "words"))
    assert isinstance(at_words.value, Outer)
    assert at_words.value.name == 'A"da'
    assert at_words.value.inner.day == datetime.date(2026, 1, 2)
    assert at_words.is_closed("name")
    assert at_words.is_closed("inner", "day")
    assert not at_words.is_closed("inner")
    assert not at_words.is_closed("inner", "words")
    assert not at_words.is_closed("count")
    at_day = next(part for part in made if part.so_far.endswith("2026-0"))
    assert at_day.value.inner.day == "2026-0"
    at_number = next(part for part in made if part.so_far.endswith(":1"))
    assert at_number.open == ("number",)
    assert made[-1].value == Outer.model_validate_json(TEXT)
    assert made[-1].is_closed("name")
    assert "".join(part.text for part in made) == TEXT


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def at(value, path):
    for key in path:
        value = value[key]
    return value


def leaves(value, path=()):
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*path, key))
    elif path:
        yield path


@given(st.lists(json_values, max_size=4) | st.dictionaries(st.text(max_size=3), json_values, max_size=4), st.data())
def test_at_every_cut_what_is_closed_is_final(value, data):
    """Of `Any`, so that values stay as they are: everything that is present and not open equals the whole's."""
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    cut = data.draw(st.integers(1, len(text)))
    scanner = JSONScanner()
    scanner.feed(text[:cut])
    assert (scanner.open is None) == (cut == len(text))
    maker = Parts(form_of(list | dict))
    part = maker.add(text[:cut])
    if part.value is None:
        return
    for path in leaves(part.value):
        if part.is_closed(*path):
            assert at(part.value, path) == at(value, path)
        else:
            assert path[: len(part.open)] == part.open


@given(st.text(max_size=8), st.integers(1, 4))
def test_texts_in_pieces(text, size):
    whole = json.dumps([text, text])
    assert parts(list[str], whole, size)[-1].value == [text, text]


@dataclass
class Point:
    x: int
    y: datetime.date


class Size(TypedDict):
    width: int
    day: datetime.date


def test_dataclasses_and_typed_dicts():
    point = built(Point, {"x": 1, "y": "20"}, ("y",))
    assert (point.x, point.y) == (1, "20")
    size = built(Size, {"day": "2026-01-02", "width": 4}, ("width",))
    assert size == {"day": datetime.date(2026, 1, 2), "width": 4}


def test_a_lone_minus_is_not_yet_a_value():
    assert parts(int, "-5")[0].value is None


async def test_a_stream_of_a_model(llm):
    class Small(BaseModel):
        flag: bool
        word: str = Field(max_length=5)

    s = State(llm).user("hi")
    gen = s.gen(Small, max_tokens=300, temperature=1.0, seed=1)
    made = [part async for part in gen]
    assert made[-1].so_far == gen.completion.text
    assert await gen == made[-1].value == Small.model_validate_json(gen.completion.text)
    assert any(part.value is not None and part.is_closed("flag") and not part.is_closed("word") for part in made)


async def test_a_stream_of_text_has_the_text_as_its_value(llm):
    gen = State(llm).user("hi").gen(max_tokens=10, ignore_eos=True)
    made = [part async for part in gen]
    assert [part.value for part in made] == [part.so_far for part in made]
    assert made[-1].value == await gen


class Awkward(BaseModel):
    cls: str
    self: int
    values: list[int]


def test_fields_may_be_called_as_parameters_are():
    made = parts(Awkward, '{"cls":"a","self":1,"values":[2,3]}')
    late = next(part for part in made if part.so_far.endswith("[2,"))
    assert (late.value.cls, late.value.self, late.value.values) == ("a", 1, [2])
    assert late.value.model_fields_set == {"cls", "self", "values"}
    assert made[-1].value == Awkward(cls="a", self=1, values=[2, 3])
    assert placeholder(Awkward, "x").cls
