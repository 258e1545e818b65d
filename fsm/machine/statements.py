"""Statements of a kernel, translated: assignments, conditions, loops. A function is one piece, with variables in memory
at first, which LLVM puts into registers.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from stemma.fsm.machine.expressions import CallKernel, Expressions
from stemma.fsm.machine.values import I64, ArrayValue, IntegersValue, RecordValue, Value, constant


class Loop(NamedTuple):
    """Where `continue` and `break` go."""

    again: Any
    end: Any


class Statements(Expressions):
    """Translates the body of one function."""

    def __init__(self, function: Callable[..., Any], builder: Any, call: CallKernel) -> None:
        super().__init__(function, builder, call)
        self._loops: list[Loop] = []

    def bind(self, name: str, value: Value) -> None:
        """Give `name` a value: an argument, or what is assigned to it."""
        if isinstance(value, ArrayValue | RecordValue):
            self.values[name] = value
            return
        numbers = value.values if isinstance(value, IntegersValue) else [value]
        if name not in self.variables:
            self.variables[name] = [self.slot() for _ in numbers]
            if isinstance(value, IntegersValue):
                self.kinds[name] = value.type
        for slot, number in zip(self.variables[name], numbers, strict=True):
            self.builder.store(number, slot)

    def body(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            method = getattr(self, f"_{type(statement).__name__.lower()}", None)
            if method is None:
                self.fail(statement, "no such statement")
            method(statement)

    def _expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.value(node.value)

    def _assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self._store(target, value)

    def _store(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, IntegersValue):
            for each, number in zip(target.elts, value.values, strict=True):
                self._store(each, number)
        elif isinstance(target, ast.Name):
            self.bind(target.id, value)
        elif isinstance(target, ast.Subscript) and _is_slice(target.slice):
            self._fill(target, value)
        elif isinstance(target, ast.Subscript):
            array, address = self.element(target)
            self.builder.store(self._cut(array, value), address)
        else:
            self.fail(target, "nothing can be stored there")

    def _cut(self, array: ArrayValue, value: Any) -> Any:
        return value if array.type.bits == I64 else self.builder.trunc(value, array.type.bits)

    def _fill(self, target: ast.Subscript, value: Any) -> None:
        """Store one number in all places of a slice."""
        array, start, length = self.stretch(target)
        if array.columns is not None:
            self.fail(target, "rows of a table cannot be filled")
        number = self._cut(array, value)

        def store(position: Any) -> None:
            place = self.builder.add(start, position)
            self.builder.store(number, self.builder.gep(array.pointer, [place], inbounds=True))

        self._count(constant(0), length, store)

    def _augassign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Subscript):
            array, address = self.element(node.target)
            before = self._loaded(array, address)
            after = self.arithmetic(node, node.op, before, self.number(node.value))
            self.builder.store(self._cut(array, after), address)
        else:
            before = self.number(node.target)
            self._store(node.target, self.arithmetic(node, node.op, before, self.number(node.value)))

    def _return(self, node: ast.Return) -> None:
        if node.value is None:
            self.builder.ret_void()
            return
        value = self.value(node.value)
        if isinstance(value, IntegersValue):
            self.builder.ret(self._together(value))
        else:
            self.builder.ret(value)

    def _together(self, value: IntegersValue) -> Any:
        result = ir.Constant(ir.LiteralStructType([I64] * len(value.values)), ir.Undefined)
        for position, number in enumerate(value.values):
            result = self.builder.insert_value(result, number, position)
        return result

    def _if(self, node: ast.If) -> None:
        yes, no, end = (self.builder.append_basic_block() for _ in range(3))
        self.branch(node.test, yes, no)
        for block, statements in ((yes, node.body), (no, node.orelse)):
            self.builder.position_at_end(block)
            self.body(statements)
            self._go(end)
        self.builder.position_at_end(end)

    def _go(self, block: Any) -> None:
        if not self.builder.block.is_terminated:
            self.builder.branch(block)

    def _while(self, node: ast.While) -> None:
        again, inside, end = (self.builder.append_basic_block() for _ in range(3))
        self.builder.branch(again)
        self.builder.position_at_end(again)
        self.branch(node.test, inside, end)
        self.builder.position_at_end(inside)
        self._loops.append(Loop(again, end))
        self.body(node.body)
        self._loops.pop()
        self._go(again)
        self.builder.position_at_end(end)

    def _break(self, node: ast.Break) -> None:
        self.builder.branch(self._loops[-1].end)

    def _continue(self, node: ast.Continue) -> None:
        self.builder.branch(self._loops[-1].again)

    def _for(self, node: ast.For) -> None:
        """Over a range, an array, or some constants."""
        if not isinstance(node.target, ast.Name) or node.orelse:
            self.fail(node, "a loop has one variable, and no end of its own")
        name, source = node.target.id, node.iter

        def run(number: Any) -> None:
            self.bind(name, number)
            self.body(node.body)

        if isinstance(source, ast.Call) and self.outside(source.func) is range and len(source.args) < 3:
            bounds = [self.number(argument) for argument in source.args]
            self._count(bounds[0] if len(bounds) > 1 else constant(0), bounds[-1], run)
            return
        values = self.value(source)
        if isinstance(values, IntegersValue):
            self._count(constant(0), constant(len(values.values)), lambda place: run(self._chosen(values, place)))
        elif isinstance(values, ArrayValue) and values.columns is None:
            start = values.pointer
            self._count(
                constant(0), values.length, lambda place: run(self._loaded(values, self.builder.gep(start, [place])))
            )
        else:
            self.fail(node, "a loop goes over a range, an array or constants")

    def _chosen(self, values: IntegersValue, place: Any) -> Any:
        result = values.values[-1]
        for position, value in enumerate(values.values[:-1]):
            result = self.builder.select(self.builder.icmp_signed("==", place, constant(position)), value, result)
        return result

    def _count(self, start: Any, end: Any, body: Callable[[Any], None]) -> None:
        """Run `body` with each number from `start` to `end`."""
        counter = self.slot()
        self.builder.store(start, counter)
        test, inside, further, after = (self.builder.append_basic_block() for _ in range(4))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        number = self.builder.load(counter)
        self.builder.cbranch(self.builder.icmp_signed("<", number, end), inside, after)
        self.builder.position_at_end(inside)
        self._loops.append(Loop(further, after))
        body(number)
        self._loops.pop()
        self._go(further)
        self.builder.position_at_end(further)
        self.builder.store(self.builder.add(number, constant(1), flags=["nsw"]), counter)
        self.builder.branch(test)
        self.builder.position_at_end(after)


def _is_slice(node: ast.expr) -> bool:
    return isinstance(node, ast.Slice) or (isinstance(node, ast.Tuple) and isinstance(node.elts[-1], ast.Slice))
