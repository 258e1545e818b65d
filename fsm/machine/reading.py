"""Arrays of NumPy as LLVM sees them: two functions that check an array, or a tuple of them, and describe it.

What is read is the beginning of NumPy's array object, which is public and the same in all its versions:

    PyObject_HEAD, char *data, int nd, npy_intp *dimensions, npy_intp *strides, PyObject *base, PyArray_Descr *descr,
    int flags

and of its PyArray_Descr: PyObject_HEAD, PyTypeObject *, four characters, int type_num.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from stemma.fsm.machine.values import ANY_COLUMNS, I1, I64, ONE_DIMENSION, WORDS, WORDS_A_FIELD, Array, constant

INT8, INT32 = ir.IntType(8), ir.IntType(32)
POINTER = ir.PointerType(INT8)
POINTERS = ir.PointerType(POINTER)
HEAD = object.__basicsize__
TYPE = HEAD - 8  # in an object: what it is
DATA, DIMENSIONS, SHAPE, DESCRIPTION, FLAGS = HEAD, HEAD + 8, HEAD + 16, HEAD + 40, HEAD + 48  # in an array
NUMBER = HEAD + 12  # in an array's description: which type its elements have
CONTIGUOUS_AND_ALIGNED = 0x101
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "PyTuple_Size": (I64, [POINTER]),
    "PyTuple_GetItem": (POINTER, [POINTER, I64]),
    "PyTuple_New": (POINTER, [I64]),
    "PyTuple_SetItem": (INT32, [POINTER, I64, POINTER]),
    "PyBytes_Size": (I64, [POINTER]),
    "PyBytes_AsString": (POINTER, [POINTER]),
    "PyLong_AsLongLong": (I64, [POINTER]),
    "PyLong_FromLongLong": (POINTER, [I64]),
    "PyBool_FromLong": (POINTER, [I64]),
    "PyErr_Occurred": (POINTER, []),
    "PyErr_BadArgument": (INT32, []),
    "PyEval_SaveThread": (POINTER, []),
    "PyEval_RestoreThread": (ir.VoidType(), [POINTER]),
}
"""Python's own functions that entries call."""


def addresses() -> dict[str, int]:
    """Where Python's functions are in this process."""
    return {name: ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in FUNCTIONS}


class Reading:
    """The two functions in one module, and what is wanted of arrays: dimensions, type and columns of each."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._wanted: dict[tuple[Array, ...], Any] = {}
        self.functions = {
            name: ir.Function(module, ir.FunctionType(result, arguments), name)
            for name, (result, arguments) in FUNCTIONS.items()
        }
        self.array = self._written("array", [POINTER, POINTER, WORDS, WORDS], self._read_array)
        self.record = self._written("record", [POINTER, POINTER, I64, WORDS, WORDS], self._read_record)

    def wanted(self, arrays: Sequence[Array]) -> Any:
        """Where it lies what arrays have to be like, three numbers each."""
        key = tuple(arrays)
        if key not in self._wanted:
            numbers: list[int] = []
            for array in arrays:
                dimensions = 1 if array.columns == ONE_DIMENSION else 2
                numbers += [dimensions, np.dtype(array.element).num, array.columns]
            kind = ir.ArrayType(I64, len(numbers))
            place = ir.GlobalVariable(self._module, kind, f"wanted.{len(self._wanted)}")
            place.linkage, place.global_constant = "internal", True
            place.initializer = ir.Constant(kind, numbers)
            self._wanted[key] = place.bitcast(WORDS)
        return self._wanted[key]

    def _written(self, name: str, arguments: list[Any], write: Any) -> Any:
        function = ir.Function(self._module, ir.FunctionType(I1, arguments), f"read.{name}")
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        wrong = function.append_basic_block("wrong")
        with builder.goto_block(wrong):
            builder.ret(I1(0))
        write(builder, wrong, *function.args)
        return function

    def _read_array(self, builder: Any, wrong: Any, argument: Any, arrays: Any, wanted: Any, words: Any) -> None:
        """Whether `argument` is an array that is as wanted; then `words` describe it. arrays: their type."""

        def read(thing: Any, offset: int, kind: Any) -> Any:
            place = builder.gep(thing, [constant(offset)])
            return builder.load(builder.bitcast(place, ir.PointerType(kind)))

        def insist(condition: Any) -> None:
            further = builder.append_basic_block()
            builder.cbranch(condition, further, wrong)
            builder.position_at_end(further)

        dimensions, number, columns = (builder.load(builder.gep(wanted, [constant(place)])) for place in range(3))
        insist(builder.icmp_signed("==", read(argument, TYPE, POINTER), arrays))
        flags = builder.and_(read(argument, FLAGS, INT32), INT32(CONTIGUOUS_AND_ALIGNED))
        found = builder.zext(read(read(argument, DESCRIPTION, POINTER), NUMBER, INT32), I64)
        is_right = builder.icmp_signed("==", builder.zext(read(argument, DIMENSIONS, INT32), I64), dimensions)
        is_right = builder.and_(is_right, builder.icmp_signed("==", flags, INT32(CONTIGUOUS_AND_ALIGNED)))
        insist(builder.and_(is_right, builder.icmp_signed("==", found, number)))
        shape = read(argument, SHAPE, POINTER)
        builder.store(read(argument, DATA, I64), words)
        builder.store(read(shape, 0, I64), builder.gep(words, [constant(1)]))
        end, table = builder.append_basic_block(), builder.append_basic_block()
        builder.cbranch(builder.icmp_signed("==", columns, constant(ONE_DIMENSION)), end, table)
        builder.position_at_end(table)
        width = read(shape, 8, I64)
        builder.store(width, builder.gep(words, [constant(2)]))
        is_free = builder.icmp_signed("==", columns, constant(ANY_COLUMNS))
        insist(builder.or_(is_free, builder.icmp_signed("==", width, columns)))
        builder.branch(end)
        builder.position_at_end(end)
        builder.ret(I1(1))

    def _read_record(
        self, builder: Any, wrong: Any, argument: Any, arrays: Any, size: Any, wanted: Any, words: Any
    ) -> None:
        """The same for a tuple of `size` arrays."""
        test, inside, further, end = (builder.append_basic_block() for _ in range(4))
        found = builder.call(self.functions["PyTuple_Size"], [argument])
        entry = builder.block
        builder.cbranch(builder.icmp_signed("==", found, size), test, wrong)
        builder.position_at_end(test)
        position = builder.phi(I64)
        position.add_incoming(constant(0), entry)
        builder.cbranch(builder.icmp_signed("<", position, size), inside, end)
        builder.position_at_end(inside)
        item = builder.call(self.functions["PyTuple_GetItem"], [argument, position])
        offset = builder.mul(position, constant(WORDS_A_FIELD))
        places = [builder.gep(table, [offset]) for table in (wanted, words)]
        builder.cbranch(builder.call(self.array, [item, arrays, *places]), further, wrong)
        builder.position_at_end(further)
        position.add_incoming(builder.add(position, constant(1)), further)
        builder.branch(test)
        builder.position_at_end(end)
        builder.ret(I1(1))
