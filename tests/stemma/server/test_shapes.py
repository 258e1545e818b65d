"""The walk over a client's types finds what is missing, unknown, of another type, or not of an enum."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tests.stemma.server.shapes import faults


class Text(BaseModel):
    type: Literal["text"]
    text: str


class Picture(BaseModel):
    type: Literal["picture"]
    width: int | None = None
    ratio: float = Field(default=1.0, alias="aspectRatio")


class Note(TypedDict):
    said: str
    by: NotRequired[str]


class Answer(BaseModel):
    parts: list[Text | Picture]
    counts: dict[str, int]
    is_done: bool
    notes: list[Note] = []


GOOD: dict[str, Any] = {
    "parts": [{"type": "text", "text": "a"}, {"type": "picture", "width": None, "aspectRatio": 1}],
    "counts": {"a": 1},
    "is_done": False,
    "notes": [{"said": "b"}],
}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, []),
        ({"parts": []}, []),
        ({"is_done": 0}, ["$.is_done: 0 is not of type bool"]),
        ({"is_done": None}, ["$.is_done: None is not of type bool"]),
        ({"counts": {"a": "1"}}, ["$.counts.a: '1' is not of type int"]),
        ({"counts": {"a": True}}, ["$.counts.a: True is not of type int"]),
        ({"parts": [{"type": "text"}]}, ["$.parts[0].text is missing, which a Text has"]),
        ({"parts": [{"type": "text", "text": None}]}, ["$.parts[0].text: None is not of type str"]),
        ({"parts": [{"type": "picture", "ratio": 1}]}, ["$.parts[0].ratio is not known of a Picture"]),
        ({"parts": [{"type": "sound"}]}, ["$.parts[0].type: 'sound' is none of 'picture'"]),
        (
            {"notes": [{"by": 1}]},
            ["$.notes[0].said is missing, which a Note has", "$.notes[0].by: 1 is not of type str"],
        ),
        ({"notes": {}}, ["$.notes: {} is no list"]),
        ({"own": 1}, ["$.own is not known of a Answer"]),
        ({"added": 1}, []),
    ],
)
def test_faults(changed: dict[str, Any], found: list[str]) -> None:
    assert faults({**GOOD, **changed}, Answer, {"Answer": ["added"]}) == found
