"""Entry points: what Python calls. They unpack arrays and tuples of arrays, and let other threads run meanwhile.

Through ctypes a call would cost more than most kernels do, and through addresses kept beside the arrays somebody would
have to see that they are still right. So an entry is a function of Python's own calling convention (METH_FASTCALL),
which reads the beginning of NumPy's array objects (their public layout). It checks what it is given: anything but
contiguous arrays of the right type, in tuples of the right length, bytes and integers is a TypeError.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir

from stemma.fsm.machine.program import Kernel, Program, result_type, returns_truth
from stemma.fsm.machine.reading import POINTER, POINTERS, Reading
from stemma.fsm.machine.values import BYTES, I64, WORDS_A_FIELD, Array, Integers, Record, Type, constant

METH_FASTCALL = 0x80


class MethodDefinition(ctypes.Structure):
    """Python's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def callable_at(address: int, name: str) -> tuple[Any, MethodDefinition]:
    """A Python function of the entry's code, and what must live as long. NumPy's array type is its `self`."""
    definition = MethodDefinition(name.encode(), address, METH_FASTCALL, None)
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    make = prototype(("PyCFunction_NewEx", ctypes.pythonapi))
    return make(ctypes.addressof(definition), np.ndarray, None), definition


class Entry:
    """Writes one entry: `PyObject *kernel(PyObject *arrays, PyObject **arguments, Py_ssize_t number)`."""

    def __init__(self, program: Program, reading: Reading, kernel: Kernel, types: tuple[Type, ...]) -> None:
        self._reading = reading
        self._kernel = kernel
        self._types = types
        self._inner = program.function(kernel, types)
        signature = ir.FunctionType(POINTER, [POINTER, POINTERS, I64])
        self._function = ir.Function(program.module, signature, kernel.__name__)
        self._builder = ir.IRBuilder(self._function.append_basic_block("entry"))
        self._wrong = self._function.append_basic_block("wrong")
        self._raised = self._function.append_basic_block("raised")

    def write(self, lets_others_run: bool) -> None:
        """lets_others_run: give the interpreter's lock away meanwhile."""
        builder = self._builder
        for block in (self._wrong, self._raised):
            with builder.goto_block(block):
                if block is self._wrong:
                    self._call("PyErr_BadArgument")
                builder.ret(ir.Constant(POINTER, None))
        _, arguments, number = self._function.args
        self._insist(builder.icmp_signed("==", number, constant(len(self._types))))
        parts: list[Any] = []
        for position, kind in enumerate(self._types):
            parts += self._unpacked(builder.load(builder.gep(arguments, [constant(position)])), kind)
        state = self._call("PyEval_SaveThread") if lets_others_run else None
        result = builder.call(self._inner, parts, attrs=("noinline",))  # what is read here is fixed there
        if lets_others_run:
            self._call("PyEval_RestoreThread", state)
        builder.ret(self._packed(result))

    def _call(self, name: str, *arguments: Any) -> Any:
        return self._builder.call(self._reading.functions[name], arguments)

    def _insist(self, condition: Any) -> None:
        """Go on only if this is so."""
        further = self._function.append_basic_block()
        self._builder.cbranch(condition, further, self._wrong)
        self._builder.position_at_end(further)

    def _unpacked(self, argument: Any, kind: Type) -> list[Any]:
        if isinstance(kind, Integers):
            size = self._call("PyTuple_Size", argument)
            self._insist(self._builder.icmp_signed("==", size, constant(len(kind.fields))))
            items = [self._call("PyTuple_GetItem", argument, constant(place)) for place in range(len(kind.fields))]
            return [self._integer(item) for item in items]
        if kind is BYTES:
            length = self._call("PyBytes_Size", argument)
            self._insist(self._builder.icmp_signed(">=", length, constant(0)))
            return [self._call("PyBytes_AsString", argument), length]
        if isinstance(kind, Array | Record):
            arrays = [kind] if isinstance(kind, Array) else [array for _, array in kind.fields]
            with self._builder.goto_entry_block():
                words = self._builder.alloca(I64, constant(WORDS_A_FIELD * len(arrays)))
            wanted = self._reading.wanted(arrays)
            if isinstance(kind, Record):
                read, size = self._reading.record, [constant(len(arrays))]
            else:
                read, size = self._reading.array, []
            self._insist(self._builder.call(read, [argument, self._function.args[0], *size, wanted, words]))
            return [words] if isinstance(kind, Record) else self._parts(words, kind)
        return [self._integer(argument)]

    def _parts(self, words: Any, kind: Array) -> list[Any]:
        """An array as it is handed over, from its description."""
        builder, parts = self._builder, kind.parts
        found = [builder.load(builder.gep(words, [constant(place)])) for place in range(len(parts))]
        return [builder.inttoptr(found[0], parts[0]), *found[1:]]

    def _integer(self, argument: Any) -> Any:
        number = self._call("PyLong_AsLongLong", argument)
        odd, further = self._function.append_basic_block(), self._function.append_basic_block()
        self._builder.cbranch(self._builder.icmp_signed("==", number, constant(-1)), odd, further)
        self._builder.position_at_end(odd)
        is_none = self._builder.icmp_signed("==", self._call("PyErr_Occurred"), ir.Constant(POINTER, None))
        self._builder.cbranch(is_none, further, self._raised)
        self._builder.position_at_end(further)
        return number

    def _packed(self, result: Any) -> Any:
        kind = result_type(self._kernel)
        if kind is None:
            return self._call("PyBool_FromLong", constant(0))
        if not isinstance(kind, Integers):
            return self._call("PyBool_FromLong" if returns_truth(self._kernel) else "PyLong_FromLongLong", result)
        packed = self._call("PyTuple_New", constant(len(kind.fields)))
        for position in range(len(kind.fields)):
            number = self._call("PyLong_FromLongLong", self._builder.extract_value(result, position))
            self._call("PyTuple_SetItem", packed, constant(position), number)
        return packed
