"""What a kernel can hold: an integer, some integers with names, an array, a record of arrays. Types, and their values.

    type                     value while translating          handed to a function as
    INTEGER                  an LLVM integer                  the integer
    BYTES                    as Array("uint8")                the same
    Integers((names))        one LLVM integer a name          that many integers
    Array("int32", 256)      where it lies, how long it is    address, length (and columns, if they are not fixed)
    Record(fields)           where its description lies       that address

There are no floats and no other widths: what is read from an array becomes 64 bits, what is stored is cut to the
array's. A truth is 0 or 1.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

I1, I64 = ir.IntType(1), ir.IntType(64)
WORDS = ir.PointerType(I64)
ONE_DIMENSION, ANY_COLUMNS = 0, -1
WORDS_A_FIELD = 3  # of a record's description: address, length, columns


class Simple(enum.Enum):
    """Types without parameters."""

    INTEGER = "a number or a truth"
    BYTES = "an object of bytes, which is read as an array"


INTEGER, BYTES = Simple.INTEGER, Simple.BYTES


@dataclass(frozen=True, slots=True)
class Integers:
    """A tuple of integers; fields: their names, or "" where they have none."""

    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """A contiguous array.

    element: the name of its NumPy type.
    columns: of a table, how many it has, ANY_COLUMNS if that may be any number; ONE_DIMENSION if it is no table.
    """

    element: str
    columns: int = ONE_DIMENSION

    @property
    def bits(self) -> Any:
        return ir.IntType(8 * np.dtype(self.element).itemsize)

    @property
    def parts(self) -> list[Any]:
        """What it is handed over as."""
        return [ir.PointerType(self.bits), I64, *([I64] if self.columns == ANY_COLUMNS else [])]


@dataclass(frozen=True, slots=True)
class Record:
    """A NamedTuple of arrays."""

    fields: tuple[tuple[str, Array], ...]

    def place(self, name: str) -> tuple[int, Array]:
        """Where the description of a field begins."""
        for position, (field, array) in enumerate(self.fields):
            if field == name:
                return WORDS_A_FIELD * position, array
        raise AttributeError(name)


Type = Simple | Integers | Array | Record


@dataclass(slots=True)
class IntegersValue:
    type: Integers
    values: list[Any]


@dataclass(slots=True)
class ArrayValue:
    """columns: None of an array that is no table."""

    type: Array
    pointer: Any
    length: Any
    columns: Any = None

    @property
    def parts(self) -> list[Any]:
        own = [self.columns] if self.type.columns == ANY_COLUMNS else []
        return [self.pointer, self.length, *own]


@dataclass(slots=True)
class RecordValue:
    type: Record
    pointer: Any


OCTETS = Array("uint8")
Value = Any  # an LLVM integer, or one of the three above


def constant(number: int) -> Any:
    return ir.Constant(I64, int(number))


def type_of(example: object, free: frozenset[str] = frozenset()) -> Type:
    """The type of an argument like `example`. free: fields of a record that may have any number of columns."""
    if isinstance(example, np.ndarray):
        return array_type(example)
    if isinstance(example, tuple) and example and isinstance(example[0], np.ndarray):
        fields: tuple[str, ...] = getattr(example, "_fields")  # noqa: B009 - of a NamedTuple
        arrays = [array_type(array, name in free) for name, array in zip(fields, example, strict=True)]
        return Record(tuple(zip(fields, arrays, strict=True)))
    if isinstance(example, tuple):
        return Integers(tuple(getattr(example, "_fields", ("",) * len(example))))
    return INTEGER


def array_type(array: npt.NDArray[Any], is_free: bool = False) -> Array:
    if array.ndim == 1:
        return Array(array.dtype.name)
    return Array(array.dtype.name, ANY_COLUMNS if is_free else array.shape[1])


def parts_of(kind: Type) -> list[Any]:
    """LLVM's types for an argument of this type."""
    if isinstance(kind, Integers):
        return [I64] * len(kind.fields)
    if isinstance(kind, Array):
        return kind.parts
    if isinstance(kind, Record):
        return [WORDS]
    return OCTETS.parts if kind is BYTES else [I64]


def joined(kind: Type, parts: Sequence[Any]) -> Value:
    """The value of an argument from what it was handed over as."""
    kind = OCTETS if kind is BYTES else kind
    if isinstance(kind, Integers):
        return IntegersValue(kind, list(parts))
    if isinstance(kind, Array):
        fixed = None if kind.columns == ONE_DIMENSION else constant(kind.columns)
        return ArrayValue(kind, parts[0], parts[1], parts[2] if kind.columns == ANY_COLUMNS else fixed)
    return RecordValue(kind, parts[0]) if isinstance(kind, Record) else parts[0]


def taken_apart(value: Value) -> list[Any]:
    """The other way round."""
    if isinstance(value, IntegersValue):
        return list(value.values)
    if isinstance(value, ArrayValue):
        return value.parts
    return [value.pointer] if isinstance(value, RecordValue) else [value]


def value_type(value: Value) -> Type:
    return value.type if isinstance(value, IntegersValue | ArrayValue | RecordValue) else INTEGER
