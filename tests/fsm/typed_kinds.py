"""The types of Python and of pydantic's documentation, with their constraints, that forms enforce: a test walks all.

Those of `typing` are here under their own names too, for users have them.
"""

# ruff: noqa: UP006, UP007, UP035, UP045

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import pathlib
import re
import typing
import uuid
import zoneinfo
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar, Union

import annotated_types
import pydantic
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    SecretBytes,
    SecretStr,
    SkipValidation,
    StringConstraints,
    Tag,
    networks,
    types,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.json_schema import SkipJsonSchema, WithJsonSchema
from typing_extensions import NotRequired, ReadOnly, Required, TypeAliasType, TypedDict

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


Pairs = TypeAliasType("Pairs", list[tuple[int, "Pairs"]])
Name = TypeAliasType("Name", Annotated[str, Field(max_length=3)])

DATE, MOMENT, AWARE = dt.date(2024, 2, 28), dt.datetime(2024, 2, 28, 12, 30, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)

NUMBERS: list[Any] = [
    int, float, bool, None, D, fractions.Fraction, complex,
    types.PositiveInt, types.NegativeInt, types.NonNegativeInt, types.NonPositiveInt, types.StrictInt,
    types.PositiveFloat, types.NegativeFloat, types.NonNegativeFloat, types.NonPositiveFloat, types.StrictFloat,
    types.FiniteFloat, types.StrictBool, types.ByteSize, types.conint(gt=3, lt=9), types.confloat(gt=1, lt=2),
    Annotated[int, Field(ge=0, le=99, multiple_of=7)], Annotated[int, Field(gt=10**20)],
    Annotated[float, Field(gt=0)], Annotated[float, Field(lt=1)], Annotated[float, Field(ge=0.1, le=0.3)],
    Annotated[float, Field(multiple_of=0.1, gt=-1)], Annotated[float, Field(multiple_of=0.5, lt=10)],
    Annotated[float, Field(gt=123456789, lt=123456790)], Annotated[float, Field(gt=0, lt=1e-12)],
    Annotated[float, Field(allow_inf_nan=False)], Annotated[D, Field(max_digits=5)],
    Annotated[D, Field(max_digits=3)], Annotated[D, Field(max_digits=30)], Annotated[D, Field(decimal_places=2)],
    Annotated[D, Field(max_digits=6, decimal_places=2)], Annotated[D, Field(max_digits=2, decimal_places=4)],
    Annotated[D, Field(gt=0)], Annotated[D, Field(ge=D("0.1"), lt=D("0.3"))],
    Annotated[D, Field(multiple_of=D("0.05"))],
    Annotated[D, Field(multiple_of=D("0.3"), max_digits=4, decimal_places=1)],
    Annotated[D, Field(gt=D("99.995"), lt=100, max_digits=8)], Annotated[D, Field(strict=True, le=10)],
    types.condecimal(max_digits=4, decimal_places=3, gt=1), Annotated[D, Field(allow_inf_nan=True)],
    Annotated[fractions.Fraction, Field(gt=fractions.Fraction(1, 3), le=2)],
    Annotated[int | float, Field(gt=3)], Annotated[int | None, Field(ge=3)],
    Annotated[types.ByteSize, Field(ge=1000, lt=2000)], Annotated[int, annotated_types.Interval(gt=1, le=4)],
]  # fmt: skip

TEXTS: list[Any] = [
    types.StrictStr, Annotated[str, Field(min_length=2, max_length=4)],
    types.constr(strip_whitespace=True, min_length=3),
    types.constr(to_lower=True, max_length=5), types.constr(to_upper=True, strip_whitespace=True, max_length=5),
    Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=6, pattern="^[ab ]+$")],
    Annotated[str, Field(pattern=r"\A[a-z]{2,4}\z")], Annotated[str, Field(pattern="^a+$")],
    Annotated[str, Field(pattern=r"^\d{3}$")], Annotated[str, Field(pattern=r"^[\w&&[^_]]{2}$")],
    Annotated[str, Field(pattern=r"^[[:alpha:]--b]\x{e9}$")], InPython,
    Annotated[str, Field(pattern=re.compile("^ab?$", re.IGNORECASE))],
    Annotated[str, Field(pattern=r"^(?i)[k-m]{2}$")],
    bytes, Annotated[bytes, Field(max_length=4)], Annotated[bytes, Field(min_length=3, max_length=3)],
    Annotated[bytes, Field(min_length=2)], types.StrictBytes, SecretStr, SecretBytes, types.Secret[int],
    Annotated[SecretStr, Field(min_length=2, max_length=4)], types.Secret[dt.date],
    types.Base64Bytes, types.Base64Str, types.Base64UrlBytes, types.Base64UrlStr,
    Annotated[types.Base64Bytes, Field(min_length=2, max_length=4)], Annotated[types.Base64Str, Field(max_length=5)],
    Annotated[types.Base64UrlBytes, Field(min_length=7, max_length=7)],
    pydantic.Json, pydantic.Json[list[int]], pydantic.Json[dict[str, str]], Inside, re.Pattern, re.Pattern[str],
    pathlib.Path, pathlib.PurePosixPath, zoneinfo.ZoneInfo, Name,
]  # fmt: skip

TIMES: list[Any] = [
    dt.date, dt.time, dt.datetime, dt.timedelta,
    types.PastDate, types.FutureDate, types.NaiveDatetime, types.AwareDatetime, types.PastDatetime,
    types.FutureDatetime, types.condate(ge=DATE), types.condate(gt=DATE, lt=dt.date(2024, 3, 2)),
    types.condate(le=dt.date(1, 2, 3)), types.condate(gt=dt.date(9998, 12, 30)),
    Annotated[dt.date, Field(ge=dt.date(1999, 12, 31), le=dt.date(2001, 1, 1))], Annotated[dt.date, Field(strict=True)],
    Annotated[dt.datetime, Field(gt=MOMENT)], Annotated[dt.datetime, Field(ge=AWARE, lt=AWARE + dt.timedelta(hours=2))],
    Annotated[dt.datetime, Field(lt=MOMENT, ge=MOMENT - dt.timedelta(seconds=3))],
    Annotated[types.AwareDatetime, Field(gt=AWARE)], Annotated[types.NaiveDatetime, Field(le=MOMENT)],
    Annotated[types.PastDatetime, Field(gt=MOMENT)], Annotated[types.PastDate, Field(gt=DATE)],
    Annotated[dt.datetime, Field(gt=dt.datetime(2024, 1, 1, 5, tzinfo=dt.timezone(dt.timedelta(hours=5))))],
    Annotated[dt.time, Field(ge=dt.time(8, 30), lt=dt.time(17))],
    Annotated[dt.time, Field(gt=dt.time(23, 59, 58, 500))],
    Annotated[dt.time, Field(le=dt.time(1, tzinfo=dt.UTC))],
    Annotated[dt.timedelta, Field(ge=dt.timedelta(0), le=dt.timedelta(hours=5))],
    Annotated[dt.timedelta, Field(gt=dt.timedelta(days=3))],
    Annotated[dt.timedelta, Field(lt=-dt.timedelta(seconds=1))],
    Annotated[dt.timedelta, Field(gt=dt.timedelta(microseconds=-1500), lt=dt.timedelta(microseconds=1500))],
    Annotated[dt.timedelta, Field(strict=True)], Annotated[dt.datetime, Field(strict=True)],
]  # fmt: skip

ADDRESSES: list[Any] = [
    uuid.UUID, types.UUID1, types.UUID3, types.UUID4, types.UUID5, types.UUID6, types.UUID7, types.UUID8,
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
    ipaddress.IPv4Interface, ipaddress.IPv6Interface,
    networks.IPvAnyAddress, networks.IPvAnyNetwork, networks.IPvAnyInterface, networks.EmailStr, networks.NameEmail,
    networks.AnyUrl, networks.AnyHttpUrl, networks.HttpUrl, networks.AnyWebsocketUrl, networks.WebsocketUrl,
    networks.FileUrl, networks.FtpUrl, networks.PostgresDsn, networks.CockroachDsn, networks.AmqpDsn,
    networks.RedisDsn, networks.MongoDsn, networks.KafkaDsn, networks.NatsDsn, networks.MySQLDsn,
    networks.MariaDBDsn, networks.ClickHouseDsn, networks.SnowflakeDsn,
    Annotated[networks.AnyUrl, networks.UrlConstraints(max_length=30, allowed_schemes=["https"])],
    Annotated[networks.AnyUrl, networks.UrlConstraints(allowed_schemes=["gopher", "file"], host_required=True)],
    Annotated[networks.EmailStr, Field(max_length=20)],
]  # fmt: skip

CONTAINERS: list[Any] = [
    list[int], Annotated[list[bool], Field(min_length=1, max_length=3)], list, dict, tuple, set, frozenset, Any,
    tuple[int, str], tuple[bool, ...], tuple[()], Annotated[tuple[bool, ...], Field(min_length=2)],
    set[int], set[Literal["a", "b", "c"]], Annotated[set[Literal["a", "b", "c"]], Field(min_length=2)],
    Annotated[frozenset[Colour], Field(min_length=2, max_length=3)], Annotated[set[bool], Field(min_length=2)],
    Annotated[set[Annotated[int, Field(ge=0, le=9)]], Field(min_length=3, max_length=4)], frozenset[Frozen],
    Annotated[set[str], Field(min_length=1)], set[tuple[int, str]], set[Any],
    collections.deque[int], Annotated[collections.deque[int], Field(max_length=2)], collections.Counter[str],
    collections.Counter[int], collections.OrderedDict[str, bool], collections.defaultdict[str, int],
    collections.defaultdict[int, list[int]], collections.abc.Sequence[int], collections.abc.Mapping[str, int],
    collections.abc.MutableMapping[int, int], collections.abc.Iterable[int], collections.abc.Set[int],
    collections.abc.MutableSet[int], typing.NamedTuple("Ab", [("a", int)]), collections.abc.Hashable,
    dict[str, int], dict[int, bool], dict[Annotated[int, Field(ge=-3, lt=12)], bool], dict[float, bool], dict[D, bool],
    dict[Annotated[float, Field(gt=0, le=2.5)], bool], dict[bool, int], dict[Colour, bool], dict[Level, bool],
    dict[Literal["a", "b"], int], dict[dt.date, bool], dict[dt.datetime, bool], dict[dt.timedelta, bool],
    dict[uuid.UUID, bool], dict[types.UUID4, bool], dict[int | None, bool], dict[int | Colour, bool],
    Annotated[dict[Colour, bool], Field(min_length=2)], Annotated[dict[str, bool], Field(min_length=1, max_length=2)],
    Annotated[dict[bool, bool], Field(min_length=2)], dict[types.condate(ge=DATE), bool], dict[networks.HttpUrl, bool],
    dict[Annotated[str, Field(pattern="^[a-c]$")], int], dict[Annotated[str, Field(min_length=2)], bool],
    dict[Name, bool], dict[types.constr(strip_whitespace=True, min_length=1), bool],
    pydantic.JsonValue, types.conlist(int, max_length=2), types.conset(bool, max_length=1),
    types.confrozenset(Level, min_length=2), Annotated[list[int], annotated_types.Len(1, 2)],
    typing.DefaultDict[str, bool], typing.Deque[bool], dict[str, Any], dict[Any, bool],
]  # fmt: skip

MODELS: list[Any] = [
    Point, Owner, Tinted, Nested, Called, Tree, Aliased, ByName, OnlyByName, Twice, Strict, Stripped, Base64Config,
    HexConfig, WithExtra, Forbidding, Shown, Box[int], Box[list[Colour]], Numbers, Plain, Checked, Size, Partial, Pair,
    Custom, Pairs, Annotated[Union[ByNumber1, ByNumber2], Field(discriminator="version")], list[Tinted],
    Optional[Annotated[Cat | Dog, Field(discriminator="kind")]],
    Colour, Level, Mixed, Permission, Kind, Literal[1, "a", True, None], Literal[Kind.A, 3],
    Cat | Dog, Point | int | str, Union[int, str, list[int]], int | None, dict[Colour, Point],
    Annotated[int, SkipValidation], Annotated[str, WithJsonSchema({"type": "string", "enum": ["a", "b"]})],
    Annotated[str, pydantic.AfterValidator(str.strip), Field(max_length=3)], types.OnErrorOmit[int],
    Annotated[int, pydantic.BeforeValidator(int)], Annotated[list[int], types.FailFast()],
]  # fmt: skip

ENFORCED = [*NUMBERS, *TEXTS, *TIMES, *ADDRESSES, *CONTAINERS, *MODELS]

TWO: Any = Field(min_length=2)
REFUSED: list[tuple[Any, str]] = [
    (types.FilePath, "path"), (types.DirectoryPath, "path"), (types.NewPath, "path"),
    (types.PaymentCardNumber, "check digit"), (types.ImportString, "imported"), (typing.Pattern[bytes], "bytes"),
    (Shape, "WIDE"), (Price, "Price.LOW"), (Literal[Colour.RED], "RED"), (Literal[b"x"], "cannot be read"),
    (LeftOut, "LeftOutInner.hidden: it is required"),
    (BothWays, "both by name and by index"),
    (Annotated[set[str], TWO], "set of at least two"), (Annotated[frozenset[float], TWO], "set of at least two"),
    (Annotated[set[Literal[1, True]], TWO], "equal"), (set[list[int]], "hashed"),
    (set[Point], "Point cannot be hashed"),
    (set[pydantic.Json[list[int]]], "hashed"), (set[tuple[Any, ...]], "hashed"), (set[pydantic.JsonValue], "hashed"),
    (dict[pydantic.Json[int], int], "JSON inside"), (set[collections.defaultdict[str, int]], "hashed"),
    (set[networks.NameEmail], "NameEmail"), (set[int | tuple[list[int], str]], "hashed"),
    (Annotated[dict[str, int], TWO], "one key twice"), (Annotated[dict[int, int], TWO], "one key twice"),
    (dict[tuple[int, str], int], "no name"), (dict[Literal[1, 2], bool], "none of the keys"),
    (dict[Annotated[int, Field(multiple_of=3)], bool], "multiples"), (dict[None, int], "no name"),
    (Annotated[int | str, Field(gt=3)], "gt=3"), (typing.Callable[[], int], "JSON form"),
    (collections.abc.Collection[int], "JSON form"), (type[int], "a class"), (list[type[Point]] | None, "a class"),
    (Annotated[dt.datetime, Field(gt=MOMENT, lt=AWARE)], "offset"),
    (Annotated[types.NaiveDatetime, Field(gt=AWARE)], "offset"),
    (Annotated[dt.time, Field(gt=dt.time(1, tzinfo=dt.timezone(dt.timedelta(hours=1))))], "UTC"),
    (Annotated[dt.time, Field(gt=dt.time.max)], "beyond"), (Annotated[dt.date, Field(gt=dt.date.max)], "JSON form"),
    (Annotated[networks.AnyUrl, networks.UrlConstraints(allowed_schemes=["HTTP"])], "small letters"),
]  # fmt: skip
"""Types of which some texts cannot be told from others by a grammar, and what the error says."""
