"""Expressions of a kernel, translated: names, numbers, places in arrays, arithmetic, comparisons and calls.

What a name outside the function stands for is looked up while translating, so constants, columns by name and rows of
constants cost nothing. As in Python, `and` and `or` stop early, comparisons chain, `>>` keeps the sign, and a slice
ends with its array. Unlike there an index may not be negative, and nobody looks whether it is.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from llvmlite import ir

from stemma.fsm.errors import KernelsFailed
from stemma.fsm.machine.values import (
    ANY_COLUMNS,
    I1,
    I64,
    Array,
    ArrayValue,
    Integers,
    IntegersValue,
    RecordValue,
    Value,
    constant,
    joined,
)

ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor",
    ast.LShift: "shl", ast.RShift: "ashr",
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
UINT32 = 0xFFFFFFFF
NARROWER = "only `a & ~b` is the same for numbers of 32 and of 64 bits"
UNKNOWN = object()
CallKernel = Callable[["Expressions", ast.Call, Any, list[Value]], Value]


class Expressions:
    """Translates the expressions of one function, where `builder` stands."""

    def __init__(self, function: Callable[..., Any], builder: Any, call: CallKernel) -> None:
        """call: how a call of another kernel is translated."""
        self.function = function
        self.builder = builder
        self.values: dict[str, Value] = {}  # arguments that are arrays and records
        self.variables: dict[str, list[Any]] = {}  # where the integers of a local name are kept
        self.kinds: dict[str, Integers] = {}  # of local names that stand for several
        self._kernel = call
        module = builder.module
        self._never_changes = module.add_metadata([])

    def fail(self, node: ast.AST, reason: str) -> NoReturn:
        code = self.function.__code__
        line = code.co_firstlineno + getattr(node, "lineno", 1) - 1
        text = f"{code.co_filename}:{line}: a kernel cannot say `{ast.unparse(node)}`: {reason}"
        raise KernelsFailed(text)

    def value(self, node: ast.expr) -> Value:
        """What `node` gives: an integer of 64 bits, or a value of several parts."""
        found = self._known(node)
        if found is UNKNOWN:
            method = getattr(self, f"_{type(node).__name__.lower()}", None)
            if method is None:
                self.fail(node, "no such expression")
            return self.wide(method(node))
        return found

    def wide(self, value: Value) -> Value:
        """A truth as an integer of 64 bits; anything else as it is."""
        return self.builder.zext(value, I64) if getattr(value, "type", None) == I1 else value

    def number(self, node: ast.expr) -> Any:
        value = self.value(node)
        if isinstance(value, IntegersValue | ArrayValue | RecordValue):
            self.fail(node, "it is not a number")
        return value

    def truth(self, node: ast.expr) -> Any:
        """`node` as a truth of one bit."""
        if isinstance(node, ast.Compare):
            return self._compare(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.builder.not_(self.truth(node.operand))
        return self.builder.icmp_signed("!=", self.number(node), constant(0))

    def branch(self, node: ast.expr, yes: Any, no: Any) -> None:
        """Go on in one of two blocks."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.branch(node.operand, no, yes)
        elif isinstance(node, ast.BoolOp):
            for operand in node.values[:-1]:
                further = self.builder.append_basic_block()
                first, second = (further, no) if isinstance(node.op, ast.And) else (yes, further)
                self.branch(operand, first, second)
                self.builder.position_at_end(further)
            self.branch(node.values[-1], yes, no)
        else:
            self.builder.cbranch(self.truth(node), yes, no)

    def slot(self) -> Any:
        """Room for an integer of this function."""
        with self.builder.goto_entry_block():
            return self.builder.alloca(I64)

    def outside(self, node: ast.expr) -> Any:
        """What a name (with attributes) of the module stands for, UNKNOWN if it is none."""
        if isinstance(node, ast.Name) and node.id not in self.variables and node.id not in self.values:
            names = self.function.__globals__
            return names[node.id] if node.id in names else getattr(builtins, node.id, UNKNOWN)
        if isinstance(node, ast.Attribute):
            owner = self.outside(node.value)
            return UNKNOWN if owner is UNKNOWN else getattr(owner, node.attr, UNKNOWN)
        return UNKNOWN

    def _known(self, node: ast.expr) -> Value:
        found = node.value if isinstance(node, ast.Constant) else self.outside(node)
        if isinstance(found, int):
            return constant(found)
        if isinstance(found, tuple):
            fields = getattr(found, "_fields", ("",) * len(found))
            return IntegersValue(Integers(tuple(fields)), [constant(number) for number in found])
        return UNKNOWN

    def _name(self, node: ast.Name) -> Value:
        if node.id in self.values:
            return self.values[node.id]
        if node.id not in self.variables:
            self.fail(node, "it is neither a local name nor a number")
        loaded = [self.builder.load(slot) for slot in self.variables[node.id]]
        return IntegersValue(self.kinds[node.id], loaded) if node.id in self.kinds else loaded[0]

    def _attribute(self, node: ast.Attribute) -> Value:
        owner = self.value(node.value)
        if isinstance(owner, IntegersValue) and node.attr in owner.type.fields:
            return owner.values[owner.type.fields.index(node.attr)]
        if not isinstance(owner, RecordValue):
            self.fail(node, "there is no such field")
        place, array = owner.type.place(node.attr)
        pointer = self.builder.inttoptr(self._described(owner, place), ir.PointerType(array.bits))
        length = self._described(owner, place + 1)
        columns = self._described(owner, place + 2) if array.columns == ANY_COLUMNS else None
        return joined(array, [pointer, length, columns])

    def _described(self, record: RecordValue, index: int) -> Any:
        """One entry of a record's description, which stays as it is while kernels run."""
        loaded = self.builder.load(self.builder.gep(record.pointer, [constant(index)], inbounds=True))
        loaded.set_metadata("invariant.load", self._never_changes)
        return loaded

    def _tuple(self, node: ast.Tuple) -> Value:
        return IntegersValue(Integers(("",) * len(node.elts)), [self.number(element) for element in node.elts])

    def element(self, node: ast.Subscript) -> tuple[ArrayValue, Any]:
        """The array and the address of one of its numbers."""
        array = self.value(node.value)
        if not isinstance(array, ArrayValue):
            self.fail(node, "it is not an array")
        if array.columns is None:
            return array, self.builder.gep(array.pointer, [self.index(node.slice)], inbounds=True)
        if not isinstance(node.slice, ast.Tuple) or len(node.slice.elts) != 2:
            self.fail(node, "a table has rows and columns")
        row, column = (self.index(each) for each in node.slice.elts)
        offset = self.builder.add(self.builder.mul(row, array.columns, flags=["nsw"]), column, flags=["nsw"])
        return array, self.builder.gep(array.pointer, [offset], inbounds=True)

    def index(self, node: ast.expr) -> Any:
        number = self.number(node)
        if isinstance(number, ir.Constant) and number.constant < 0:
            self.fail(node, "an index may not be negative")
        return number

    def _subscript(self, node: ast.Subscript) -> Value:
        if isinstance(node.slice, ast.Slice):
            array, start, length = self.stretch(node)
            rows = array.columns is not None
            offset = self.builder.mul(start, array.columns) if rows else start
            return ArrayValue(array.type, self.builder.gep(array.pointer, [offset]), length, array.columns)
        owner = self.value(node.value)
        if isinstance(owner, ArrayValue) and owner.columns is not None and not isinstance(node.slice, ast.Tuple):
            offset = self.builder.mul(self.index(node.slice), owner.columns)
            return ArrayValue(Array(owner.type.element), self.builder.gep(owner.pointer, [offset]), owner.columns)
        return self._loaded(*self.element(node))

    def _loaded(self, array: ArrayValue, address: Any) -> Any:
        loaded = self.builder.load(address)
        if array.type.bits == I64:
            return loaded
        return self.builder.sext(loaded, I64) if array.type.element[0] == "i" else self.builder.zext(loaded, I64)

    def stretch(self, node: ast.Subscript) -> tuple[ArrayValue, Any, Any]:
        """The array of a slice, where it begins and how long it is: of an array, of a table's rows, or in one row."""
        array, place = self.value(node.value), node.slice
        if isinstance(place, ast.Tuple) and isinstance(array, ArrayValue):
            first, place = place.elts
            offset = self.builder.mul(self.index(first), array.columns)
            start_of_row = self.builder.gep(array.pointer, [offset])
            array = ArrayValue(Array(array.type.element), start_of_row, array.columns)
        if not isinstance(array, ArrayValue) or not isinstance(place, ast.Slice) or place.step is not None:
            self.fail(node, "no such slice")
        start = self.index(place.lower) if place.lower else constant(0)
        end = self._least(self.index(place.upper), array.length) if place.upper else array.length
        return array, start, self._most(self.builder.sub(end, start), constant(0))

    def _least(self, left: Any, right: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", left, right), left, right)

    def _most(self, left: Any, right: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", left, right), left, right)

    def arithmetic(self, node: ast.AST, operator: ast.operator, left: Any, right: Any) -> Any:
        if isinstance(operator, ast.FloorDiv):
            divisor = right.constant if isinstance(right, ir.Constant) else 0
            if divisor <= 0 or divisor & (divisor - 1):
                self.fail(node, "the divisor is not a power of two")
            return self.builder.ashr(left, constant(divisor.bit_length() - 1))
        if type(operator) not in ARITHMETIC:
            self.fail(node, "no such operation")
        return getattr(self.builder, ARITHMETIC[type(operator)])(left, right)

    def _binop(self, node: ast.BinOp) -> Any:
        right = node.right
        if isinstance(node.op, ast.BitAnd) and isinstance(right, ast.UnaryOp) and isinstance(right.op, ast.Invert):
            return self.builder.and_(self.number(node.left), self.builder.not_(self.number(right.operand)))
        return self.arithmetic(node, node.op, self.number(node.left), self.number(right))

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            return self.truth(node)
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return constant(-int(ast.literal_eval(node.operand)))
        number = self.number(node.operand)
        return self.builder.neg(number) if isinstance(node.op, ast.USub) else self.fail(node, NARROWER)

    def _boolop(self, node: ast.BoolOp) -> Any:
        result, end = self.slot(), self.builder.append_basic_block()
        for operand in node.values:
            number = self.number(operand)
            self.builder.store(number, result)
            if operand is node.values[-1]:
                self.builder.branch(end)
                break
            further, is_true = self.builder.append_basic_block(), self.builder.icmp_signed("!=", number, constant(0))
            yes, no = (further, end) if isinstance(node.op, ast.And) else (end, further)
            self.builder.cbranch(is_true, yes, no)
            self.builder.position_at_end(further)
        self.builder.position_at_end(end)
        return self.builder.load(result)

    def _compare(self, node: ast.Compare) -> Any:
        """Chains are of numbers, which cost nothing, so all of a chain is computed."""
        left, result = self.number(node.left), None
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.In | ast.NotIn):
                one = self._is_one_of(left, self.value(right_node))
                one = self.builder.not_(one) if isinstance(operator, ast.NotIn) else one
            else:
                right = self.number(right_node)
                one = self.builder.icmp_signed(COMPARISONS[type(operator)], left, right)
                left = right
            result = one if result is None else self.builder.and_(result, one)
        return result

    def _is_one_of(self, number: Any, values: IntegersValue) -> Any:
        result = ir.Constant(I1, 0)
        for value in values.values:
            result = self.builder.or_(result, self.builder.icmp_signed("==", number, value))
        return result

    def _ifexp(self, node: ast.IfExp) -> Any:
        result = self.slot()
        yes, no, end = (self.builder.append_basic_block() for _ in range(3))
        self.branch(node.test, yes, no)
        for block, choice in ((yes, node.body), (no, node.orelse)):
            self.builder.position_at_end(block)
            self.builder.store(self.number(choice), result)
            self.builder.branch(end)
        self.builder.position_at_end(end)
        return self.builder.load(result)

    def _built_in(self, called: Any, arguments: list[Value]) -> Value | None:
        """What is built in: a few of Python's own functions, and a row of named integers. None if it is neither."""
        if called is int:
            return arguments[0]
        if called is bool:
            return self.builder.icmp_signed("!=", arguments[0], constant(0))
        if called is len and isinstance(arguments[0], ArrayValue):
            return arguments[0].length
        if called in (min, max) and len(arguments) == 2:
            return (self._least if called is min else self._most)(*arguments)
        if called is np.uint32:
            return self.builder.and_(arguments[0], constant(UINT32))
        if isinstance(called, type) and issubclass(called, tuple):
            return IntegersValue(Integers(tuple(getattr(called, "_fields"))), arguments)  # noqa: B009
        return None

    def _call(self, node: ast.Call) -> Value:
        called = self.outside(node.func)
        if called is UNKNOWN or node.keywords:
            self.fail(node, "only functions of a module can be called, without names of arguments")
        arguments = [self.value(argument) for argument in node.args]
        built_in = self._built_in(called, arguments)
        return self._kernel(self, node, called, arguments) if built_in is None else built_in
