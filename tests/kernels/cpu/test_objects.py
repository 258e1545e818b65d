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

from stemma.kernels.cpu.machine import compile, objects
from stemma.kernels.cpu.machine.cpuinfo import x86_cpu, x86_flags
from stemma.kernels.cpu.machine.dialect import FLOATS16, I32, Code
from stemma.kernels.cpu.machine.target import X86_FLAGS, Target, host_target
from stemma.machine_code import llvm

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or host_target().is_arm, reason="LLVM's linker places objects of other machines"
)
SERIES = [float(power) for power in range(16)]


def object_of(target: Target) -> bytes:
    """Constants of several sizes, a function that calls another, and one whose address is taken."""
    module, machine = ir.Module("any"), compile.machine_of(target)
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    inner = Code(module, "inner", 1)
    values = inner.load(FLOATS16, inner.arguments[0])
    inner.store(values * 3.25 + inner.constant(FLOATS16, SERIES), inner.arguments[0])
    inner.finish()
    outer = Code(module, "outer", 1)
    outer.call(module.globals["inner"], outer.arguments[0])
    outer.store(outer.address_of(module.globals["inner"]), outer.arguments[0] + 64)
    outer.finish()
    return compile.emit(module, target, machine)


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
