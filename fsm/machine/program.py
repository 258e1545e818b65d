"""Functions of a program: each kernel that is called, translated once for each kind of arguments."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from stemma.fsm.machine.expressions import Expressions
from stemma.fsm.machine.statements import Statements
from stemma.fsm.machine.values import (
    I64,
    INTEGER,
    Integers,
    IntegersValue,
    Record,
    Type,
    Value,
    joined,
    parts_of,
    taken_apart,
    value_type,
)

Kernel = Callable[..., Any]


class Program:
    """The functions of one LLVM module."""

    def __init__(self, module: Any, kernels: frozenset[Kernel]) -> None:
        """kernels: what may be called."""
        self.module = module
        self._kernels = kernels
        self._functions: dict[tuple[Kernel, tuple[Type, ...]], Any] = {}

    def function(self, kernel: Kernel, types: tuple[Type, ...]) -> Any:
        """The LLVM function of `kernel` for arguments of these types."""
        key = (kernel, types)
        if key not in self._functions:
            self._functions[key] = self._declared(kernel, types)
            self._translate(kernel, types, self._functions[key])
        return self._functions[key]

    def _declared(self, kernel: Kernel, types: tuple[Type, ...]) -> Any:
        parts = [part for kind in types for part in parts_of(kind)]
        signature = ir.FunctionType(_llvm_result(result_type(kernel)), parts)
        function = ir.Function(self.module, signature, f"{kernel.__name__}.{len(self._functions)}")
        function.linkage = "internal"
        function.attributes.add("nounwind")
        position = 0
        for kind in types:
            if isinstance(kind, Record):
                for attribute in ("noalias", "nonnull"):
                    function.args[position].add_attribute(attribute)
            position += len(parts_of(kind))
        return function

    def _translate(self, kernel: Kernel, types: tuple[Type, ...], function: Any) -> None:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kernel))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        body = Statements(kernel, builder, self._call)
        position = 0
        for argument, kind in zip(tree.args.args, types, strict=True):
            size = len(parts_of(kind))
            body.bind(argument.arg, joined(kind, function.args[position : position + size]))
            position += size
        start = function.append_basic_block("start")
        builder.branch(start)
        builder.position_at_end(start)
        body.body(tree.body)
        if not builder.block.is_terminated:
            if result_type(kernel) is None:
                builder.ret_void()
            else:
                builder.unreachable()

    def _call(self, caller: Expressions, node: ast.Call, kernel: Any, arguments: list[Value]) -> Value:
        if kernel not in self._kernels:
            caller.fail(node, "it is not marked as a kernel")
        function = self.function(kernel, tuple(value_type(argument) for argument in arguments))
        result = caller.builder.call(function, [part for argument in arguments for part in taken_apart(argument)])
        kind = result_type(kernel)
        if isinstance(kind, Integers):
            values = [caller.builder.extract_value(result, position) for position in range(len(kind.fields))]
            return IntegersValue(kind, values)
        return result


def result_type(kernel: Kernel) -> Type | None:
    """What the annotation says that a kernel returns: an integer, several, or None."""
    annotation = kernel.__annotations__["return"]
    found = eval(annotation, kernel.__globals__) if isinstance(annotation, str) else annotation
    if found is None or found in (int, bool):
        return None if found is None else INTEGER
    fields = getattr(found, "_fields", None)
    return Integers(tuple(fields) if fields else ("",) * len(found.__args__))


def returns_truth(kernel: Kernel) -> bool:
    return kernel.__annotations__["return"] in ("bool", bool)


def _llvm_result(kind: Type | None) -> Any:
    if kind is None:
        return ir.VoidType()
    return ir.LiteralStructType([I64] * len(kind.fields)) if isinstance(kind, Integers) else I64
