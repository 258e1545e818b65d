"""Typed forms: what is generated for a type, what comes back, and what a half-written text already tells."""

import dataclasses
from enum import Enum
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from stemma.fsm.errors import FormError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.forms import form_of
from stemma.fsm.regex import Regex
from stemma.fsm.syntax.recogniser import Recogniser


class Colour(Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Level(Enum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    city: str = Field(max_length=20)
    code: int | None = None


class Person(BaseModel):
    name: str
    age: Annotated[int, Field(ge=0, le=150)]
    colour: Colour
    addresses: list[Address] = []
    shown: str = Field(alias="shown-as", default="")


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Options(TypedDict):
    deep: bool
    tags: set[str]


ADA = '{"name":"Ada","age":36,"colour":"red","addresses":[{"city":"London"}],"shown-as":"A"}'


@pytest.mark.parametrize(
    ("kind", "text", "value", "rejected"),
    [
        (Person, ADA, Person.model_validate_json(ADA), '{"name":"Ada","age":151,"colour":"red"}'),
        (Point, '{"x":1.5}', Point(1.5), '{"x":1.5,"z":1}'),
        (Options, '{"deep":true,"tags":["a","a"]}', {"deep": True, "tags": {"a"}}, '{"deep":1,"tags":[]}'),
        (Literal["yes", "no"], "yes", "yes", '"yes"'),
        (Literal["a", 1], '"a"', "a", "a"),
        (Colour, "dark blue", Colour.DARK_BLUE, "blue"),
        (Level, "2", Level.HIGH, "3"),
        (int, "-12", -12, "1.5"),
        (float, "1.5", 1.5, "x"),
        (bool, "true", True, "1"),
        (str, "free text\n", "free text\n", None),
        (list[int], "[1,2]", [1, 2], '["a"]'),
        (Optional[Address], "null", None, "{}"),  # noqa: UP045
        (Address | int, '{"city":"Rom","code":null}', Address(city="Rom"), '"x"'),
        (dict[str, int], '{"a":1}', {"a": 1}, '{"a":"b"}'),
        (tuple[int, str], '[1,"a"]', (1, "a"), "[1]"),
        (Regex("[0-9]{3}"), "123", "123", "12"),
        (JSONSchema({"type": "integer"}), "7", 7, "x"),
    ],
)
def test_the_text_of_a_type_comes_back_as_its_value(kind: Any, text: str, value: Any, rejected: str | None) -> None:
    form = form_of(kind)
    grammar = form.grammar()
    recogniser = Recogniser(grammar.rule)
    assert recogniser.matches(grammar.start, text)
    assert form.validate(text) == value
    assert rejected is None or not recogniser.matches(grammar.start, rejected)


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(FormError, match="JSON form"):
        form_of(type("Odd", (), {}))
