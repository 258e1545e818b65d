"""Objects in memory without LLVM: what they compute is what LLVM's linker makes of them, and who needs more is told."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from llvmlite import ir

from stemma.kernels.cpu.machine import compile, cpuinfo, objects
from stemma.kernels.cpu.machine.cpuinfo import x86_cpu, x86_flags
from stemma.kernels.cpu.machine.dialect import FLOATS16, I32, Code
from stemma.kernels.cpu.machine.target import X86_FLAGS, Target, host_target
from stemma.machine_code import llvm, read_code

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or host_target().is_arm, reason="LLVM's linker places objects of other machines"
)
SERIES = [float(power) for power in range(16)]


def write(module: ir.Module) -> None:
    """Constants of several sizes, a function that calls another, and one whose address is taken."""
    inner = Code(module, "inner", 1)
    values = inner.load(FLOATS16, inner.arguments[0])
    inner.store(values * 3.25 + inner.constant(FLOATS16, SERIES), inner.arguments[0])
    inner.finish()
    outer = Code(module, "outer", 1)
    outer.call(module.globals["inner"], outer.arguments[0])
    outer.store(outer.address_of(module.globals["inner"]), outer.arguments[0] + 64)
    outer.finish()


def write_data(module: ir.Module) -> None:
    """A number that is counted up."""
    number = ir.GlobalVariable(module, I32, "number")
    number.initializer = ir.Constant(I32, 41)
    code = Code(module, "count", 1)
    place = code.address_of(number)
    code.store(code.load(I32, place) + 1, place)
    code.store(code.load(I32, place), code.arguments[0])
    code.finish()


def object_of(target: Target, generate: compile.Generate = write, near: bool = False) -> bytes:
    """near: refer to places by their distance, as code of the usual model does."""
    module, machine = ir.Module("any"), compile.machine_of(target)
    if near:
        made = llvm().Target.from_triple(target.triple)
        machine = made.create_target_machine(cpu=target.cpu, features=target.features, opt=3, codemodel="small")
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    generate(module)
    return compile.emit(module, target, machine)


def multiplied(library: compile.Library) -> list[float]:
    """What `outer` makes of sevens."""
    room = np.full(18, 7, np.float32)
    library.function("outer", 1)(room.ctypes.data)
    return [float(number) for number in room[:16]]


SEVENS = [7 * 3.25 + number for number in SERIES]


def test_a_placed_object_computes_and_knows_its_functions() -> None:
    placed = objects.place(object_of(host_target()))
    assert placed is not None
    room = np.zeros(18, np.float32)
    room[:16] = np.arange(16) * 7
    outer = ctypes.CFUNCTYPE(None, ctypes.c_int64)(placed.address("outer"))
    outer(room.ctypes.data)
    assert (room[:16] == np.arange(16) * (7 * 3.25 + 1)).all()
    assert room[16:].view(np.int64)[0] == placed.address("inner") != 0
    assert placed.address("other") == 0


def test_code_is_not_writable() -> None:
    placed = objects.place(object_of(host_target()))
    assert placed is not None
    address = placed.address("inner")
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if first <= address < last:
            assert line.split()[1].startswith("r-x")
            return
    pytest.fail("it is nowhere")


def test_an_object_that_calls_the_c_library_is_for_llvm() -> None:
    target = host_target()
    module, machine = ir.Module("any"), compile.machine_of(target)
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    code = Code(module, "away", 1)
    code.store(code.call(ir.Function(module, ir.FunctionType(I32, []), "getpid")), code.arguments[0])
    code.finish()
    data = compile.emit(module, target, machine)
    assert objects.place(data) is None
    library, number = compile.link(data, target), np.zeros(1, np.int32)
    library.function("away", 1)(number.ctypes.data)
    assert number[0] == os.getpid()


def test_what_is_no_object_of_this_machine_is_for_llvm() -> None:
    whole = object_of(host_target())
    of_arm = whole[:18] + (183).to_bytes(2, "little") + whole[20:]
    assert objects.place(of_arm) is None
    assert objects.place(b"\xcf\xfa\xed\xfe" + whole[4:]) is None
    assert objects.place(b"") is None


def test_an_object_that_refers_to_places_by_distance_is_for_llvm() -> None:
    data = object_of(host_target(), near=True)
    assert objects.place(data) is None
    assert multiplied(compile.link(data, host_target())) == SEVENS


def test_an_object_whose_data_are_written_is_for_llvm() -> None:
    data = object_of(host_target(), write_data)
    assert objects.place(data) is None
    library, number = compile.link(data, host_target()), np.zeros(1, np.int32)
    for expected in (42, 43):
        library.function("count", 1)(number.ctypes.data)
        assert number[0] == expected


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "code alone"])
def test_a_file_that_is_not_whole_is_made_again(damage: str, tmp_path: Path) -> None:
    target = host_target()
    assert multiplied(compile.load("any", write, target, (), tmp_path)) == SEVENS
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    path.write_bytes({"cut": whole[:-9], "changed": changed, "empty": b"", "code alone": whole[32:]}[damage])
    assert multiplied(compile.load("any", write, target, (), tmp_path)) == SEVENS
    assert path.read_bytes() == whole


def test_two_processes_that_compile_at_once_keep_one_whole_file(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from tests.kernels.cpu.test_objects import *\n"
        f"print(multiplied(compile.load('any', write, host_target(), (), Path({str(tmp_path)!r}))) == SEVENS)"
    )
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ["True", "True"]
    (path,) = tmp_path.iterdir()
    assert read_code(path) is not None


@pytest.mark.parametrize("made", ["object_of(host_target(), near=True)", "object_of(host_target())"])
def test_a_system_that_refuses_such_memory_is_an_error_that_says_so(made: str) -> None:
    """Linux can be told to by any process, of itself; LLVM's library would call what cannot be run."""
    script = (
        "from tests.kernels.cpu.test_objects import *; from stemma.kernels.select import UnknownBackend, select_ops\n"
        "from stemma.machine_code import NoExecutableMemory\n"
        f"data = {made}\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): print('cannot'); raise SystemExit\n"
        "try: compile.link(data, host_target())\n"
        "except NoExecutableMemory as error: print(error)\n"
        "try: select_ops(backend='cpu')\n"
        "except UnknownBackend as error: print(error.param)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if answer.stdout.startswith("cannot"):
        pytest.skip("this Linux knows no such refusal (PR_SET_MDWE, 6.3)")
    assert answer.returncode == 0, answer.stderr
    refused, param = answer.stdout.splitlines()
    assert "MemoryDenyWriteExecute" in refused
    assert param == "backend"


@pytest.mark.parametrize("text", [None, "", "processor : 0\nvendor_id : AuthenticAMD\ncpu family : 25\n"])
def test_where_linux_does_not_say_llvm_is_asked(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = host_target()
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpuinfo, "CPUINFO", tmp_path / "cpuinfo")
    found = host_target()
    assert (found.name, found.streams, found.features) == (known.name, known.streams, known.features)


def test_a_name_that_is_no_text_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_bytes(b"model name : Xeon\xae\xff\nflags : avx2 avx512_vnni\n\nflags : mmx\n")
    monkeypatch.setattr(cpuinfo, "CPUINFO", tmp_path / "cpuinfo")
    assert x86_flags() == {"avx2": True, "avx512vnni": True}
    assert x86_cpu() == "x86-64"


def test_linux_and_llvm_say_the_same_of_this_processor() -> None:
    needed = {flag for flags in X86_FLAGS.values() for flag in flags} | {"prfchw"}
    known = dict(llvm().get_host_cpu_features())
    assert {flag for flag in needed if known.get(flag)} == {flag for flag in needed if x86_flags().get(flag)}
    assert x86_cpu().startswith("znver") == llvm().get_host_cpu_name().startswith("znver")


def test_kernels_that_are_kept_are_loaded_without_llvm(cache_dir: Path) -> None:
    """Its library takes more memory than all else that an engine has beside weights."""
    script = (
        "import sys, stemma.runtime.engine; from pathlib import Path; from stemma.kernels.cpu.ops import CpuOps\n"
        f"CpuOps(num_threads=1, cache_dir=Path({str(cache_dir)!r})); print('llvmlite.binding' in sys.modules)"
    )
    answers = [subprocess.check_output([sys.executable, "-c", script], text=True).strip() for _ in range(2)]
    assert answers[1] == "False"
