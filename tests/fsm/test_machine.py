"""The compiler of kernels: what functions say in Python is what they do compiled; what it keeps, and for whom."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from stemma.fsm.errors import KernelsFailed
from stemma.fsm.machine import build
from stemma.fsm.machine.values import ANY_COLUMNS, BYTES, INTEGER, Array, type_of
from stemma.machine_code import read_code

Int64s = npt.NDArray[np.int64]
LIMIT = 3
FEW = (2, 5, -4)


class Pair(NamedTuple):
    left: int
    right: int


class Both(NamedTuple):
    numbers: Int64s
    table: npt.NDArray[np.int32]
    wide: npt.NDArray[np.uint32]


def arithmetic(a: int, b: int, c: int) -> int:
    value = (a * 3 - b) ^ (c << 2)
    value += a >> 1 if b < c else -(b // 4)
    return value & ~c | min(a, max(b, LIMIT)) + int(bool(a)) + (not b)


def conditions(a: int, b: int, c: int) -> int:
    found = 0
    if a < b <= c or not (a == c and b != c):
        found = 1
    if a in (1, b, 7) and c not in FEW:
        found |= 2
    elif (a or b) > (b and c):
        found |= 4
    return found + 8 * (a > 0) + (16 if -2 < b < 2 else 32)


def loops(a: int, b: int, c: int) -> int:
    total = position = 0
    for i in range(a, b):
        if i == c:
            continue
        if i > 6:
            break
        total += i
    for each in FEW:
        if each > c:
            continue
        total = total * 3 + each
    while True:
        position += 1
        if position > c or position * a > 40:
            return total
        total ^= position


def pair_of(a: int, b: int) -> Pair:
    return Pair(a - b, b)


def pairs(pair: Pair, c: int) -> Pair:
    first = pair_of(pair.left, pair.right)
    left, right = first
    left = right = left + c
    if c > 0:
        first = Pair(left, pair.right)
    return Pair(first.left + right, first.right)


def filled(both: Both, row: int, low: int, high: int, value: int) -> int:
    both.table[row, low:high] = value
    both.numbers[low:] = value
    both.wide[row] |= np.uint32(1) << np.uint32(value & 31)
    both.wide[low] = (both.wide[low] & ~both.wide[row]) >> np.uint32(3)
    both.numbers[0] = both.table[row, high] = int(both.wide[high]) >> 2
    total = 0
    for number in both.numbers:
        total += number
    return total + len(both.table) + summed(both.table[row], both.numbers[low:high])


def summed(row: npt.NDArray[np.int32], numbers: Int64s) -> int:
    total = 0
    for position in range(len(row)):
        total += position * int(row[position])
    return total * 2 + len(numbers)


def read(data: bytes, table: Int64s) -> bool:
    table[0, 1] = 0
    for byte in data:
        table[0, 1] = table[0, 1] * 31 + byte
    return bool(len(data) > 2 and data[1] == table[0, 0])


def cleared(table: Int64s, row: int) -> None:
    for column in range(2):
        table[row, column] = 0


KERNELS = [arithmetic, conditions, loops, pairs, filled, read, cleared]
BOTH = type_of(Both(np.zeros(1, np.int64), np.zeros((1, 5), np.int32), np.zeros(1, np.uint32)))
SIGNATURES = {
    **dict.fromkeys((arithmetic, conditions, loops), (INTEGER, INTEGER, INTEGER)),
    pairs: (type_of(Pair(0, 0)), INTEGER),
    filled: (BOTH, INTEGER, INTEGER, INTEGER, INTEGER),
    read: (BYTES, Array("int64", ANY_COLUMNS)),
    cleared: (Array("int64", 2), INTEGER),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[..., Any]]:
    return build.load(SIGNATURES, frozenset([*KERNELS, pair_of, summed]), tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("kernel", [arithmetic, conditions, loops])
def test_numbers(kernel: Callable[..., int], compiled: dict[str, Callable[..., Any]]) -> None:
    draw = random.Random(1)
    for _ in range(2000):
        numbers = [draw.randint(-12, 12) for _ in range(3)]
        assert compiled[kernel.__name__](*numbers) == kernel(*numbers), numbers


def test_several_numbers(compiled: dict[str, Callable[..., Any]]) -> None:
    draw = random.Random(2)
    for _ in range(100):
        pair, number = Pair(draw.randint(-9, 9), draw.randint(-9, 9)), draw.randint(-9, 9)
        assert compiled["pairs"](pair, number) == tuple(pairs(pair, number))


def test_arrays(compiled: dict[str, Callable[..., Any]]) -> None:
    draw, numbers = random.Random(3), np.random.default_rng(3)
    for _ in range(300):
        both = Both(
            numbers.integers(-99, 99, 7),
            numbers.integers(-99, 99, (4, 5), np.int32),
            numbers.integers(0, 1 << 32, 6, np.uint32),
        )
        copy = Both(*(array.copy() for array in both))
        low = draw.randint(0, 4)
        arguments = (draw.randint(0, 3), low, draw.randint(low, 4), draw.randint(-(1 << 31), (1 << 31) - 1))
        assert compiled["filled"](both, *arguments) == filled(Both(*copy), *arguments)
        assert all(np.array_equal(one, other) for one, other in zip(both, copy, strict=True))


def test_bytes_truths_and_nothing(compiled: dict[str, Callable[..., Any]]) -> None:
    table = np.array([[98, 0, 7], [1, 2, 3]])
    assert compiled["read"](b"abc", table) is read(b"abc", table.copy()) is True
    assert compiled["read"](b"ab", table) is False
    assert table[0, 1] == 97 * 31 + 98
    narrow = np.ones((3, 2), np.int64)
    compiled["cleared"](narrow, 1)
    assert narrow.tolist() == [[1, 1], [0, 0], [1, 1]]


def test_what_is_not_as_declared_is_a_type_error(compiled: dict[str, Callable[..., Any]]) -> None:
    right = Both(np.zeros(7, np.int64), np.zeros((4, 5), np.int32), np.zeros(6, np.uint32))
    wrong: list[Any] = [
        None, tuple(right[:2]), (*right, right[0]), list(right), right._replace(numbers=[0]),
        right._replace(numbers=np.zeros(7, np.uint64)), right._replace(numbers=np.zeros((7, 1), np.int64)),
        right._replace(table=np.zeros((4, 6), np.int32)), right._replace(table=np.zeros((5, 4), np.int32).T),
        right._replace(wide=np.zeros(12, np.uint32)[::2]),
    ]  # fmt: skip
    for record in wrong:
        with pytest.raises(TypeError):
            compiled["filled"](record, 0, 0, 0, 0)
    for arguments in ((1, 2), (1, 2, "3"), (1, 2, 3.0), ()):
        with pytest.raises(TypeError):
            compiled["arithmetic"](*arguments)
    with pytest.raises(TypeError):
        compiled["read"]("abc", np.zeros((1, 2), np.int64))
    with pytest.raises(OverflowError):
        compiled["arithmetic"](1, 2, 1 << 70)
    assert compiled["arithmetic"](-1, np.int32(2), True) == arithmetic(-1, 2, 1)


def test_calls_keep_no_references(compiled: dict[str, Callable[..., Any]]) -> None:
    both = Both(np.zeros(7, np.int64), np.zeros((4, 5), np.int32), np.zeros(6, np.uint32))
    number, pair = 12345678901, Pair(98765432109, 1)
    before = [sys.getrefcount(thing) for thing in (both, *both, number, pair)]
    for _ in range(50):
        compiled["filled"](both, 0, 0, 2, number)
        assert compiled["pairs"](pair, number)[1] == 1
        with pytest.raises(TypeError):
            compiled["filled"](both, 0, 0, number)
    assert [sys.getrefcount(thing) for thing in (both, *both, number, pair)] == before


def divides(a: int) -> int:
    return a // 3


def behind_the_end(numbers: Int64s) -> int:
    return int(numbers[-1])


def formats(a: int) -> int:
    return len(f"{a}")


def inverts(a: int) -> int:
    return ~a >> 3


def not_marked(a: int) -> int:
    return arithmetic(a, a, a)


@pytest.mark.parametrize(
    ("kernel", "kind", "reason"),
    [
        (divides, INTEGER, "power of two"),
        (behind_the_end, Array("int64"), "may not be negative"),
        (formats, INTEGER, "no such expression"),
        (inverts, INTEGER, "32 and of 64 bits"),
        (not_marked, INTEGER, "not marked as a kernel"),
    ],
)
def test_what_cannot_be_translated_is_named(kernel: Callable[..., Any], kind: Any, reason: str) -> None:
    line = kernel.__code__.co_firstlineno + 1
    with pytest.raises(KernelsFailed, match=rf"test_machine\.py:{line}: .*{reason}"):
        build.compile_kernels({kernel: (kind,)}, frozenset([kernel]), build.Machine.here())


def module_of(path: Path, text: str) -> ModuleType:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"made_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loaded(module: ModuleType, folder: Path) -> int:
    """What the module's kernel says once it is compiled into `folder`."""
    functions = build.load({module.kernel: (INTEGER,)}, frozenset([module.kernel]), folder)
    return int(functions["kernel"](1))


def test_one_object_serves_the_same_sources_wherever_they_lie(tmp_path: Path) -> None:
    """And no other ones, nor one that is damaged."""
    source, folder = "def kernel(a: int) -> int:\n    return a + 1\n", tmp_path / "kept"
    assert loaded(module_of(tmp_path / "one" / "kernel.py", source), folder) == 2
    [kept] = folder.iterdir()
    whole, written = kept.read_bytes(), kept.stat().st_mtime_ns
    again = module_of(tmp_path / "two" / "kernel.py", source)
    assert loaded(again, folder) == 2
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == [written]
    assert loaded(module_of(tmp_path / "three" / "kernel.py", source.replace("+ 1", "+ 2")), folder) == 3
    assert len(list(folder.iterdir())) == 2
    for damaged in (b"", whole[:-1], whole[:40], whole[:50] + b"x" + whole[51:], b"x" + whole[1:]):
        kept.write_bytes(damaged)
        assert loaded(again, folder) == 2
        assert read_code(kept) is not None


def test_where_nothing_can_be_kept_kernels_are_compiled_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    module = module_of(tmp_path / "one" / "kernel.py", "def kernel(a: int) -> int:\n    return a * 5\n")
    assert loaded(module, tmp_path / "file" / "kernels") == 5
    assert "cannot be kept" in caplog.text


REFUSED = """
import ctypes, sys
from pathlib import Path
from stemma.machine_code import NoExecutableMemory
from tests.fsm.test_machine import loaded, module_of

if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    print("cannot")
    raise SystemExit
folder = Path(sys.argv[1])
try:
    loaded(module_of(folder / "kernel.py", "def kernel(a: int) -> int:\\n    return a\\n"), folder)
except NoExecutableMemory as error:
    print(error)
"""


def test_a_system_that_refuses_memory_to_run_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Linux can be told to by any process, of itself; LLVM's library would call what cannot be run."""
    answer = subprocess.run([sys.executable, "-c", REFUSED, str(tmp_path)], capture_output=True, text=True)
    if answer.stdout.startswith("cannot"):
        pytest.skip("this Linux knows no such refusal (PR_SET_MDWE, 6.3)")
    assert answer.returncode == 0, answer.stderr
    assert "MemoryDenyWriteExecute" in answer.stdout


CONSTRAINED = """
import sys, threading
import numpy as np
from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.json_schema import JSONSchema
vocabulary = Vocabulary([bytes([byte]) for byte in range(256)], {}, [])
row = np.zeros(vocabulary.num_words, np.uint32)
matcher = Matcher(compile(JSONSchema({"type": "array", "items": {"type": "integer"}}), vocabulary))
for byte in b"[12":
    matcher.mask_into(row)
    assert matcher.advance(byte)
vocabulary.flush()
assert threading.active_count() == 1
print([name for name in ("numba", "torch") if name in sys.modules])
"""


def test_a_constrained_answer_needs_no_other_compiler_and_leaves_nothing_running(tmp_path: Path) -> None:
    environment = {**os.environ, "STEMMA_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CONSTRAINED], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert len(list((tmp_path / "fsm").glob("kernels-*.o"))) == 1
