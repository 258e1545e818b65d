"""The types of Python and of pydantic's documentation, with their constraints, that forms enforce: a test walks all.

Those of `typing` are here under their own names too, for users have them.
"""

# ruff: noqa: UP006, UP007, UP045

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import decimal
import fractions
import ipaddress
import pathlib
import re
import typing
import uuid
import zoneinfo
from typing import Annotated, Any, Literal, Optional, TypeVar, Union

import annotated_types
import pydantic
from pydantic import (
    Field,
    SecretBytes,
    SecretStr,
    SkipValidation,
    StringConstraints,
    networks,
    types,
)
from pydantic.json_schema import WithJsonSchema
from typing_extensions import TypeAliasType

from tests.fsm.typed_classes import (
    Aliased,
    Base64Config,
    BothWays,
    Box,
    ByName,
    ByNumber1,
    ByNumber2,
    Called,
    Cat,
    Checked,
    Colour,
    Custom,
    Dog,
    Forbidding,
    Frozen,
    HexConfig,
    InPython,
    Inside,
    Kind,
    LeftOut,
    Level,
    Mixed,
    Nested,
    Numbers,
    OnlyByName,
    Owner,
    Pair,
    Partial,
    Permission,
    Plain,
    Point,
    Price,
    Shape,
    Shown,
    Size,
    Strict,
    Stripped,
    Tinted,
    Tree,
    Twice,
    WithExtra,
)

D = decimal.Decimal
T = TypeVar("T")


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
