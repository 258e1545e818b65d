"""Machine code for an emulated process, made outside the emulator, where Python and LLVM are twenty times faster.

First the same tests run on this machine as if it were the emulated one, with functions that do nothing: what they load
is compiled for the emulated target and kept in a folder, and nobody looks at what they compute. Then they run under
emulation, find it there, and run it. What is not there is asked for:

    emulated process                                     this machine, the same llvmlite
    kernels written as LLVM's text  -- <digest>.json -->  optimised and emitted for the emulated target
    object loaded and linked        <-- <digest>.o -----

Optimising, emitting and their options are `machine/compile.py`'s own; only where they run is another place.

    python far_compiler.py describe [mac]                              what this machine is, emulated or not
    python far_compiler.py serve FOLDER                                until ended
    pytest -p tests.kernels.cpu.emulated.far_compiler --far FOLDER                     find, or ask
    pytest -p tests.kernels.cpu.emulated.far_compiler --far FOLDER --as DESCRIPTION    make, run nothing

An emulated process may be a `mac` in what LLVM makes for it and loads: Apple's object files, for Apple's processor.
LLVM's loader takes those on Linux too, and kernels call nobody; so a Mac's kernels are run here, though not its system.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import pytest
from llvmlite import ir

from stemma.kernels.cpu.machine import compile, target
from stemma.kernels.cpu.machine.target import Target

SHORTER = [1, 3, 17, 255, 257, 300]
"""Tokens of the sequences with which attention is tested: emulated, the reference's float64 takes nearly all of the
time, and it grows with their squares. They still end before, at and behind a split of the KV."""

PATIENCE_S = 600
"""No kernel takes LLVM so long: then nobody serves."""


MAC = "mac"
MAC_CPU, MAC_TRIPLE = "apple-m2", "arm64-apple-darwin23.1.0"
"""What LLVM says of one, whose instructions QEMU's `max` has."""


class Nothing(compile.Library):
    """A library whose functions do nothing, on this machine: all are one that has no arguments."""

    def __init__(self) -> None:
        pass

    def address(self, name: str) -> int:
        return ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p).value or 0


def keep_in(folder: Path) -> None:
    """All objects in one folder, whichever the tests name."""
    load = compile.load

    def load_here(
        name: str, generate: compile.Generate, target: Target, parameters: Sequence[object], cache_dir: Path
    ) -> compile.Library:
        return load(name, generate, target, parameters, folder / "objects")

    compile.load = load_here


def ask(folder: Path) -> None:
    """From here on this process lets the one that serves `folder` do LLVM's work."""
    keep_in(folder)

    def emit(module: ir.Module, target: Target, machine: Any) -> bytes:
        words = [str(module), target.triple, target.cpu, target.features, str(llvm.llvm_version_info)]
        text = json.dumps(words)
        path = folder / hashlib.sha256(text.encode()).hexdigest()
        answer, failure = path.with_suffix(".o"), path.with_suffix(".failed")
        if not answer.exists():
            _put(path.with_suffix(".json"), text.encode())
        before = time.monotonic()
        while not answer.exists():
            if failure.exists():
                raise RuntimeError(failure.read_text())
            if time.monotonic() - before > PATIENCE_S:
                raise TimeoutError(f"nobody compiles {path}.json: is far_compiler.py running?")
            time.sleep(0.02)
        return answer.read_bytes()

    compile.emit = emit


def serve(folder: Path) -> None:
    """Compile what is asked for, until this process is ended."""
    folder.mkdir(parents=True, exist_ok=True)
    _know_all_targets()
    while True:
        for request in folder.glob("*.json"):
            try:
                text, triple, cpu, features, version = json.loads(request.read_text())
            except FileNotFoundError:  # another one serves this folder too
                continue
            try:
                if version != str(llvm.llvm_version_info):
                    raise ValueError(f"LLVM {version} asks, {llvm.llvm_version_info} serves")
                asked = Target("any", triple, cpu, features, 0)
                _put(request.with_suffix(".o"), compile.emit(text, asked, compile.machine_of(asked)))
            except Exception:
                _put(request.with_suffix(".failed"), traceback.format_exc().encode())
            request.unlink(missing_ok=True)
        time.sleep(0.02)


def describe() -> str:
    """What a target is chosen by."""
    return json.dumps([
        platform.machine(), target.host_flags(), llvm.get_host_cpu_name(), llvm.get_default_triple(),
    ])  # fmt: skip


def pretend(folder: Path, description: str) -> None:
    """To be the machine that is described, and compile for it without running anything."""
    machine, flags, cpu, triple = json.loads(description)
    _know_all_targets()
    for module, name, value in (
        (platform, "machine", machine), (target, "host_flags", flags), (llvm, "get_host_cpu_name", cpu),
        (llvm, "get_default_triple", triple),
    ):  # fmt: skip
        setattr(module, name, lambda value=value: value)
    compile.link = lambda data, target: Nothing()
    keep_in(folder)


def be_a_mac() -> None:
    llvm.get_host_cpu_name = lambda: MAC_CPU
    llvm.get_default_triple = lambda: MAC_TRIPLE


def _know_all_targets() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def _put(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--far", type=Path, required=True, help="where compiled kernels are kept and asked for")
    parser.addoption("--as", default="", help="what another machine says of itself (far_compiler.py describe)")
    parser.addoption("--kind", default="", choices=["", MAC], help="what this process is for LLVM, beside what it is")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    options = early_config.known_args_namespace
    from tests.kernels.cpu import worlds  # brings torch, which takes an emulated process a minute

    worlds.LENGTHS[:] = SHORTER
    take_part(options.far, getattr(options, "as"), options.kind)


def take_part(folder: Path, description: str = "", kind: str = "") -> None:
    """Before anything is compiled in this process. kind: see `MAC`; a description says it itself."""
    if description:
        pretend(folder, description)
        return
    if kind == MAC:
        be_a_mac()
    ask(folder)


if __name__ == "__main__":
    if sys.argv[1] == "describe":
        if sys.argv[2:] == [MAC]:
            be_a_mac()
        print(describe())
    else:
        serve(Path(sys.argv[2]))
