"""Classes of users, of all the sorts that forms can be made of; `typed_kinds.py` lists them among the types."""

# ruff: noqa: UP035

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pydantic
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    Tag,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import NotRequired, ReadOnly, Required, TypedDict

D = decimal.Decimal
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"
    HALF = 0.5
    NONE = None
    YES = True


class Permission(enum.IntFlag):
    READ = 1
    WRITE = 2


class Kind(enum.StrEnum):
    A = "a"
    B = "b"


class Point(BaseModel):
    x: int
    y: float = 0.5


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    n: Literal[1, 2]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    name: Annotated[str, Field(max_length=5)]


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: Annotated[str, Field(max_length=5)]
    age: int | None = None


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    second: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None


class Red(BaseModel):
    kind: Literal[Kind.A] = Field(Kind.A, alias="Kind")
    n: int


class Other(BaseModel):
    kind: Literal[Kind.B, "c"] = Field(Kind.B, alias="Kind")
    s: Literal["x"]


Tinted = Annotated[Red | Other, Field(discriminator="kind")]


class ByNumber1(BaseModel):
    version: Literal[1] = 1
    a: bool


class ByNumber2(BaseModel):
    version: Literal[2, 3] = 2
    b: bool


class Bird(BaseModel):
    kind: Literal["bird"] = "bird"
    order: Literal["owl", "duck"] = "owl"


Nested = Annotated[Annotated[Cat | Dog, Field(discriminator="kind")] | Bird, Field(discriminator="kind")]


def tag_of(value: Any) -> str:
    """Which of two: by what is there."""
    return "cat" if isinstance(value, dict) and "claws" in value else "dog"


class Clawed(BaseModel):
    claws: int


class Barking(BaseModel):
    bark: int


Called = Annotated[Annotated[Clawed, Tag("cat")] | Annotated[Barking, Tag("dog")], Discriminator(tag_of)]


class Tree(BaseModel):
    value: Literal[1]
    children: Annotated[list[Tree], Field(max_length=2)] = []


class Aliased(BaseModel):
    first: str = Field(validation_alias=AliasPath("names", 0), max_length=4)
    last: int = Field(validation_alias=AliasPath("names", 1))
    deep: bool = Field(validation_alias=AliasPath("a", "b", "c"))
    either: int = Field(validation_alias=AliasChoices("x", AliasPath("y", 0)))
    plain: int = Field(alias="Plain")


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True, extra="allow")
    a: Literal[1] = Field(1, alias="A")
    b: Literal[2] = Field(2, validation_alias=AliasChoices("B", "BB"))


class OnlyByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)
    a: int = Field(alias="A")


class Twice(BaseModel):
    a: int = Field(validation_alias="n", ge=3)
    b: int = Field(validation_alias="n", le=5)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    a: int
    b: float
    c: dt.date
    d: D
    e: uuid.UUID
    f: set[int]
    g: tuple[int, str]
    h: dt.timedelta
    i: Colour
    j: dict[int, bool]
    k: bytes


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True, str_min_length=2, str_max_length=6)
    s: str


class Inside(BaseModel):
    """JSON in texts, also of itself."""

    a: pydantic.Json[Point]
    b: pydantic.Json[pydantic.Json[list[Colour]]]
    c: pydantic.Json[Inside] | None = None


class InPython(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")
    s: str = Field(pattern=r"^(?!b)\w\Z|a$")


class Base64Config(BaseModel):
    model_config = ConfigDict(val_json_bytes="base64")
    b: Annotated[bytes, Field(max_length=5)]


class HexConfig(BaseModel):
    model_config = ConfigDict(val_json_bytes="hex")
    b: Annotated[bytes, Field(min_length=1, max_length=3)]


class WithExtra(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]
    a: bool


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: bool = Field(exclude=True)

    @pydantic.computed_field
    @property
    def b(self) -> int:
        return 1


class Shown(BaseModel):
    model_config = ConfigDict(json_schema_mode_override="serialization")
    a: D = D(1)
    b: int | SkipJsonSchema[None] = None


class Box(BaseModel, Generic[T]):
    content: T


class Numbers(RootModel[list[int]]):
    pass


@dataclasses.dataclass
class Plain:
    a: int
    b: Annotated[str, Field(max_length=3)] = "x"
    c: bool = dataclasses.field(init=False, default=False)


@pydantic_dataclass(config=ConfigDict(extra="forbid"))
class Checked:
    a: int
    b: int = dataclasses.field(init=False, default=1)
    c: dataclasses.InitVar[bool] = True


class Size(TypedDict):
    width: int
    depth: NotRequired[float]
    note: ReadOnly[bool]


class Partial(TypedDict, total=False):
    a: Required[int]
    b: Annotated[int, Field(multiple_of=3)]


class Pair(NamedTuple):
    left: int
    right: Annotated[int, Field(ge=0)] = 0


class Shape(enum.Enum):
    WIDE = (2, 1)


class Price(enum.Enum):
    LOW = D("1.5")
    SINCE = dt.date(2020, 1, 1)


class LeftOut(BaseModel):
    inner: LeftOutInner


class LeftOutInner(BaseModel):
    hidden: SkipJsonSchema[int]


class BothWays(BaseModel):
    a: int = Field(validation_alias=AliasPath("x", 0))
    b: int = Field(validation_alias=AliasPath("x", "y"))


class Custom:
    """A type that says its own core schema."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema as core

        return core.no_info_after_validator_function(lambda value: cls(), core.int_schema(ge=5, lt=9))
