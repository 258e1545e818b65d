"""A tiny SIMD language inside Python: expressions that write LLVM IR through llvmlite.

Python runs while a kernel is generated, LLVM's code runs later: a Python `for` unrolls, `code.loop` is a loop of the
machine. Values are 64-bit integers (also used as addresses), floats and vectors of them; vectors of 16 floats stand for
whatever the machine has (one AVX-512 register, two of AVX2, four of NEON). It never reorders or contracts floating
point: what is written is what is computed, on which the exactness of the back end rests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
VOID = ir.VoidType()
FLOATS = (ir.HalfType, ir.FloatType, ir.DoubleType)
Scalar = int | float


def vector(element: Any, lanes: int) -> Any:
    """The type of `lanes` elements side by side; one lane is still a vector."""
    return ir.VectorType(element, lanes)


FLOATS16, INTS16, BYTES16 = vector(FLOAT, 16), vector(I32, 16), vector(I8, 16)


def element_of(type_: Any) -> Any:
    return type_.element if isinstance(type_, ir.VectorType) else type_


class Value:
    """A value of the generated program. Integers are signed; `>>` keeps the sign."""

    __slots__ = ("code", "ir")

    def __init__(self, code: Code, value: Any) -> None:
        self.code = code
        self.ir = value

    @property
    def type(self) -> Any:
        return self.ir.type

    @property
    def is_float(self) -> bool:
        return isinstance(element_of(self.type), FLOATS)

    def _two(self, other: Value | Scalar, integer: str, floating: str | None = None) -> Value:
        right = self.code.like(self, other)
        name = floating if self.is_float and floating else integer
        return Value(self.code, getattr(self.code.builder, name)(self.ir, right.ir))

    def __add__(self, other: Value | Scalar) -> Value:
        return self._two(other, "add", "fadd")

    def __radd__(self, other: Scalar) -> Value:
        return self.code.like(self, other) + self

    def __sub__(self, other: Value | Scalar) -> Value:
        return self._two(other, "sub", "fsub")

    def __rsub__(self, other: Scalar) -> Value:
        return self.code.like(self, other) - self

    def __mul__(self, other: Value | Scalar) -> Value:
        return self._two(other, "mul", "fmul")

    def __rmul__(self, other: Scalar) -> Value:
        return self * other

    def __truediv__(self, other: Value | Scalar) -> Value:
        return self._two(other, "fdiv", "fdiv")

    def __rtruediv__(self, other: Scalar) -> Value:
        return self.code.like(self, other) / self

    def __floordiv__(self, other: Value | Scalar) -> Value:
        return self._two(other, "sdiv")

    def __mod__(self, other: Value | Scalar) -> Value:
        return self._two(other, "srem")

    def __and__(self, other: Value | Scalar) -> Value:
        return self._two(other, "and_")

    def __or__(self, other: Value | Scalar) -> Value:
        return self._two(other, "or_")

    def __xor__(self, other: Value | Scalar) -> Value:
        return self._two(other, "xor")

    def __lshift__(self, other: Value | Scalar) -> Value:
        return self._two(other, "shl")

    def __rshift__(self, other: Value | Scalar) -> Value:
        return self._two(other, "ashr")

    def unsigned_shift_right(self, other: Value | Scalar) -> Value:
        return self._two(other, "lshr")

    def unsigned_divide(self, other: Value | Scalar) -> Value:
        return self._two(other, "udiv")

    def unsigned_modulo(self, other: Value | Scalar) -> Value:
        return self._two(other, "urem")

    def _compare(self, sign: str, other: Value | Scalar) -> Value:
        builder, right = self.code.builder, self.code.like(self, other)
        compare = builder.fcmp_ordered if self.is_float else builder.icmp_signed
        return Value(self.code, compare(sign, self.ir, right.ir))

    def __lt__(self, other: Value | Scalar) -> Value:
        return self._compare("<", other)

    def __le__(self, other: Value | Scalar) -> Value:
        return self._compare("<=", other)

    def __gt__(self, other: Value | Scalar) -> Value:
        return self._compare(">", other)

    def __ge__(self, other: Value | Scalar) -> Value:
        return self._compare(">=", other)

    def equals(self, other: Value | Scalar) -> Value:
        return self._compare("==", other)

    def differs(self, other: Value | Scalar) -> Value:
        return self._compare("!=", other)

    def bits(self, type_: Any) -> Value:
        """The same bits, read as another type."""
        return Value(self.code, self.code.builder.bitcast(self.ir, type_))

    def to(self, type_: Any) -> Value:
        """Converted: integers widen with their sign, floats to integers drop the fraction."""
        source, target = element_of(self.type), element_of(type_)
        builder = self.code.builder
        if source == target:
            return self
        if isinstance(source, FLOATS) and isinstance(target, FLOATS):
            order = [ir.HalfType, ir.FloatType, ir.DoubleType]
            widens = order.index(type(target)) > order.index(type(source))
            convert = builder.fpext if widens else builder.fptrunc
        elif isinstance(source, FLOATS):
            convert = builder.fptosi
        elif isinstance(target, FLOATS):
            convert = builder.sitofp
        else:
            convert = builder.sext if target.width > source.width else builder.trunc
        return Value(self.code, convert(self.ir, type_))

    def widen_unsigned(self, type_: Any) -> Value:
        return Value(self.code, self.code.builder.zext(self.ir, type_))


class Variable:
    """A place that the generated program assigns to; LLVM turns it into registers."""

    __slots__ = ("_code", "_place")

    def __init__(self, code: Code, initial: Value) -> None:
        self._code = code
        with code.builder.goto_entry_block():
            self._place = code.builder.alloca(initial.type)
        self.value = initial

    @property
    def value(self) -> Value:
        return Value(self._code, self._code.builder.load(self._place))

    @value.setter
    def value(self, new: Value) -> None:
        self._code.builder.store(new.ir, self._place)


class Code:
    """One function being written. Its arguments and its result, if it has one, are 64-bit integers."""

    def __init__(self, module: ir.Module, name: str, num_arguments: int, returns: Any = VOID) -> None:
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(returns, [I64] * num_arguments), name)
        self.function.attributes.add("nounwind")
        # A vector that waits on the stack of a caller who aligns less lies across two cache lines.
        self.function.attributes.alignstack = 64
        self.builder: Any = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.arguments = [Value(self, argument) for argument in self.function.args]

    # Constants and types ---------------------------------------------------------------------------------------------
    def constant(self, type_: Any, number: Scalar | Sequence[Scalar]) -> Value:
        if isinstance(type_, ir.VectorType):
            numbers = number if isinstance(number, Sequence) else [number] * type_.count
            return Value(self, ir.Constant(type_, [ir.Constant(type_.element, x) for x in numbers]))
        return Value(self, ir.Constant(type_, number))

    def like(self, value: Value, other: Value | Scalar) -> Value:
        return other if isinstance(other, Value) else self.constant(value.type, other)

    def opaque(self, value: Value) -> Value:
        """The same integer, of which LLVM no longer knows where it came from: what is loaded by way of it is loaded
        again, where registers are scarce."""
        kind = ir.FunctionType(I64, [I64])
        return Value(self, self.builder.asm(kind, "", "=r,0", [value.ir], False))

    def splat(self, value: Value, lanes: int) -> Value:
        type_ = vector(value.type, lanes)
        first = self.builder.insert_element(ir.Constant(type_, ir.Undefined), value.ir, ir.Constant(I32, 0))
        zeros = ir.Constant(vector(I32, lanes), [ir.Constant(I32, 0)] * lanes)
        return Value(self, self.builder.shuffle_vector(first, first, zeros))

    def variable(self, initial: Value | int) -> Variable:
        return Variable(self, initial if isinstance(initial, Value) else self.constant(I64, initial))

    # Memory ----------------------------------------------------------------------------------------------------------
    def pointer(self, address: Value) -> Any:
        return self.builder.inttoptr(address.ir, ir.PointerType())

    def load(self, type_: Any, address: Value, align: int = 1) -> Value:
        return Value(self, self.builder.load(self.pointer(address), align=align, typ=type_))

    def store(self, value: Value, address: Value, align: int = 1) -> None:
        self.builder.store(value.ir, self.pointer(address), align=align)

    @property
    def is_x86(self) -> bool:
        return str(self.module.triple).startswith(("x86", "amd64"))

    def stream(self, value: Value, address: Value) -> None:
        """Store 16 floats at a cache line past the caches, where the machine can, without reading what was there: for
        what is not read soon. `settle` comes before another thread reads it."""
        stored = self.builder.store(value.ir, self.pointer(address), align=64)
        if self.is_x86:
            stored.set_metadata("nontemporal", self.module.add_metadata([ir.Constant(I32, 1)]))

    def settle(self) -> None:
        """What was streamed is seen by others before anything that is stored from here on."""
        if self.is_x86:
            name = "llvm.x86.sse.sfence"
            function = self.module.globals.get(name) or ir.Function(self.module, ir.FunctionType(VOID, []), name)
            self.builder.call(function, [])

    def prefetch(self, address: Value, nearness: int = 3) -> None:
        """Ask for a cache line that will be read soon; any address will do, also one that is not mapped.

        nearness: 3 for the first level of caches, 2 for the second, 0 past all but the first.
        """
        self._ask(address, 0, nearness)

    def prefetch_to_write(self, address: Value) -> None:
        """Ask for a cache line that will be written soon, and that another core may have: stores leave one after the
        other, so each would wait for its own line alone."""
        self._ask(address, 1, 3)

    def _ask(self, address: Value, writing: int, nearness: int) -> None:
        kind = ir.FunctionType(VOID, [ir.PointerType(), I32, I32, I32])
        function = self.module.globals.get("llvm.prefetch.p0") or ir.Function(self.module, kind, "llvm.prefetch.p0")
        numbers = [ir.Constant(I32, number) for number in (writing, nearness, 1)]
        self.builder.call(function, [self.pointer(address), *numbers])

    def load_int(self, address: Value, index: int = 0) -> Value:
        """The 64-bit integer at `address[index]`."""
        return self.load(I64, address + 8 * index, 8)

    def broadcast(self, element: Any, address: Value, lanes: int) -> Value:
        return self.splat(self.load(element, address), lanes)

    # Control ---------------------------------------------------------------------------------------------------------
    @contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: Value | int = 1) -> Iterator[Value]:
        """`for index in range(start, stop, step)` at run time."""
        counter = self.variable(start)
        with self.repeat(lambda: counter.value < stop):
            index = counter.value
            yield index
            counter.value = index + step

    @contextmanager
    def repeat(self, condition: Callable[[], Value]) -> Iterator[None]:
        """`while condition()` at run time."""
        append = self.function.append_basic_block
        test, body, end = append("test"), append("body"), append("end")
        self.builder.branch(test)
        self.builder.position_at_end(test)
        self.builder.cbranch(condition().ir, body, end)
        self.builder.position_at_end(body)
        yield
        self.builder.branch(test)
        self.builder.position_at_end(end)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        with self.builder.if_then(condition.ir):
            yield

    @contextmanager
    def either(self, condition: Value) -> Iterator[tuple[Any, Any]]:
        """`with code.either(c) as (then, otherwise):` and in it `with then: ...`, `with otherwise: ...`."""
        with self.builder.if_else(condition.ir) as branches:
            yield branches

    def call(self, function: ir.Function, *arguments: Value) -> Value:
        return Value(self, self.builder.call(function, [argument.ir for argument in arguments]))

    def call_address(self, address: Value, *arguments: Value) -> None:
        kind = ir.FunctionType(VOID, [I64] * len(arguments))
        pointer = self.builder.inttoptr(address.ir, kind.as_pointer())
        self.builder.call(pointer, [argument.ir for argument in arguments])

    def address_of(self, function: ir.Function) -> Value:
        return Value(self, self.builder.ptrtoint(function, I64))

    def finish(self, result: Value | None = None) -> ir.Function:
        if result is None:
            self.builder.ret_void()
        else:
            self.builder.ret(result.ir)
        return self.function

    # Arithmetic ------------------------------------------------------------------------------------------------------
    def intrinsic(self, name: str, returns: Any, *arguments: Value) -> Value:
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, ir.FunctionType(returns, [a.type for a in arguments]), name)
        return Value(self, self.builder.call(function, [a.ir for a in arguments]))

    def _overloaded(self, name: str, *arguments: Value) -> Value:
        type_ = arguments[0].type
        element = element_of(type_)
        letter = {HALF: "f16", FLOAT: "f32", DOUBLE: "f64"}[element]
        suffix = f"v{type_.count}{letter}" if isinstance(type_, ir.VectorType) else letter
        return self.intrinsic(f"llvm.{name}.{suffix}", type_, *arguments)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once."""
        return self._overloaded("fma", a, b, c)

    def sqrt(self, a: Value) -> Value:
        return self._overloaded("sqrt", a)

    def round(self, a: Value) -> Value:
        """To the nearest integer, halves to even, as a float."""
        return self._overloaded("rint", a)

    def absolute(self, a: Value) -> Value:
        return self._overloaded("fabs", a)

    def select(self, condition: Value, yes: Value | Scalar, no: Value) -> Value:
        return Value(self, self.builder.select(condition.ir, self.like(no, yes).ir, no.ir))

    def maximum(self, a: Value, b: Value | Scalar) -> Value:
        b = self.like(a, b)
        return self.select(a > b, a, b)

    def minimum(self, a: Value, b: Value | Scalar) -> Value:
        b = self.like(a, b)
        return self.select(a < b, a, b)

    # Across lanes ----------------------------------------------------------------------------------------------------
    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        mask = ir.Constant(vector(I32, len(lanes)), [ir.Constant(I32, lane) for lane in lanes])
        return Value(self, self.builder.shuffle_vector(a.ir, b.ir, mask))

    def lane(self, a: Value, index: int) -> Value:
        return Value(self, self.builder.extract_element(a.ir, ir.Constant(I32, index)))

    def reduce(self, a: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """Halves are combined until one lane is left: always in the same order."""
        count = a.type.count
        while count > 1:
            count //= 2
            low = self.shuffle(a, a, range(count))
            high = self.shuffle(a, a, range(count, 2 * count))
            a = combine(low, high)
        return self.lane(a, 0)

    def sum(self, a: Value) -> Value:
        return self.reduce(a, lambda x, y: x + y)
