"""From a generated module to callable addresses, with the machine code kept on disk.

The key of a cached object is everything it depends on: the text of the kernels' sources, the target, LLVM's version and
the parameters. A warm start neither generates nor compiles, it loads a file of a few hundred kilobytes.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import platformdirs
from llvmlite import ir

from stemma.kernels.cpu.target import Target

Generate = Callable[[ir.Module], None]


class Library:
    """Compiled functions; they live as long as this object."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def address(self, name: str) -> int:
        found = int(self._engine.get_function_address(name))
        if not found:
            raise KeyError(name)
        return found

    def function(self, name: str, num_arguments: int, returns: Any = None) -> Callable[..., Any]:
        """Callable from Python with integers; the interpreter's lock is released meanwhile."""
        prototype = ctypes.CFUNCTYPE(returns, *[ctypes.c_int64] * num_arguments)
        return prototype(self.address(name))


def default_cache_dir() -> Path:
    return Path(platformdirs.user_cache_dir("stemma")) / "kernels"


def load(name: str, generate: Generate, target: Target, parameters: Sequence[object], cache_dir: Path) -> Library:
    """Compile what `generate` writes into a module, or take the machine code from `cache_dir`."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = _machine(target)
    path = cache_dir / f"{name}-{_key(target, parameters)}.o"
    data = path.read_bytes() if path.is_file() else None
    if data is None:
        module = ir.Module(name)
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        generate(module)
        data = emit(module, target, machine)
        _write(path, data)
    empty = llvm.parse_assembly(f'target triple = "{target.triple}"\n')
    engine = llvm.create_mcjit_compiler(empty, machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return Library(engine)


def _machine(target: Target) -> Any:
    made = llvm.Target.from_triple(target.triple)
    return made.create_target_machine(cpu=target.cpu, features=target.features, opt=3, jit=True, codemodel="jitdefault")


def optimise(module: ir.Module, machine: Any) -> Any:
    """LLVM's own module, verified and optimised. The loops are written as they should be: no vectoriser."""
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_interleaving = False
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(parsed, passes)
    return parsed


def emit(module: ir.Module, target: Target, machine: Any) -> bytes:
    """The object file of a generated module."""
    return bytes(machine.emit_object(optimise(module, machine)))


def assembly(module: ir.Module, target: Target) -> str:
    """The machine's text, for a look at what LLVM made of it, also for a machine that is not this one."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = _machine(target)
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    return str(machine.emit_assembly(optimise(module, machine)))


def _key(target: Target, parameters: Sequence[object]) -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    digest.update(repr((target, tuple(parameters), llvm.llvm_version_info)).encode())
    return digest.hexdigest()[:24]


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also when two processes start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.replace(name, path)
