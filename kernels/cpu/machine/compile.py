"""From a generated module to callable addresses, with the machine code kept on disk.

The key of a cached object is everything it depends on: the text of the kernels' sources, the target, LLVM's version and
the parameters. A warm start neither generates nor compiles, it loads a file of a few hundred kilobytes.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llvmlite
from llvmlite import ir

from stemma.cache_folder import cache_folder
from stemma.kernels.cpu.machine.objects import place
from stemma.kernels.cpu.machine.target import Target
from stemma.machine_code import check_executable, keep_code, llvm, read_code

Generate = Callable[[ir.Module], None]
SOURCES = Path(__file__).parents[1]
"""The back end's folder. Its sources, wherever they stand in it, are part of an object's key."""


class Library:
    """Compiled functions; they live as long as this object."""

    def __init__(self, find: Callable[[str], int]) -> None:
        self._find = find

    def address(self, name: str) -> int:
        found = self._find(name)
        if not found:
            raise KeyError(name)
        return found

    def function(self, name: str, num_arguments: int, returns: Any = None) -> Callable[..., Any]:
        """Callable from Python with integers; the interpreter's lock is released meanwhile."""
        prototype = ctypes.CFUNCTYPE(returns, *[ctypes.c_int64] * num_arguments)
        return prototype(self.address(name))


def default_cache_dir() -> Path:
    return cache_folder() / "kernels"


def load(name: str, generate: Generate, target: Target, parameters: Sequence[object], cache_dir: Path) -> Library:
    """Compile what `generate` writes into a module, or take the machine code from `cache_dir`.

    A file that is not whole is made again; where none can be written, it is compiled at each start.
    """
    path = cache_dir / f"{name}-{_key(target, parameters)}.o"
    data = read_code(path)
    if data is None:
        machine = machine_of(target)
        module = ir.Module(name)
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        generate(module)
        data = emit(module, target, machine)
        keep_code(path, data)
    return link(data, target)


def link(data: bytes, target: Target) -> Library:
    """An object file, loaded: by LLVM where it is not one that `objects.py` knows. Raises NoExecutableMemory."""
    placed = place(data)
    if placed is not None:
        return Library(placed.address)
    check_executable()
    empty = llvm().parse_assembly(f'target triple = "{target.triple}"\n')
    engine = llvm().create_mcjit_compiler(empty, machine_of(target))
    engine.add_object_file(llvm().ObjectFileRef.from_data(data))
    engine.finalize_object()
    return Library(engine.get_function_address)


def machine_of(target: Target) -> Any:
    """LLVM's generator of machine code for this target."""
    llvm().initialize_native_target()
    llvm().initialize_native_asmprinter()
    made = llvm().Target.from_triple(target.triple)
    features = ",".join((target.features, *_hidden_features(target.features)))
    return made.create_target_machine(cpu=target.cpu, features=features, opt=3, jit=True, codemodel="jitdefault")


def _hidden_features(features: str) -> list[str]:
    """What this version of LLVM must be told beside a target's features."""
    version = llvm().llvm_version_info
    hidden = []
    if "avx512f" in features and (18,) <= version < (21,):
        hidden.append("+evex512")  # 512-bit registers have a flag of their own
    if version >= (16,) and ("avx512vnni" in features or "avxvnni" in features):
        hidden.append("+fast-dpwssd")  # or one becomes two instructions, in the belief that a chain of them is slow
    return hidden


def optimise(module: ir.Module, machine: Any) -> Any:
    """LLVM's own module, verified and optimised. The loops are written as they should be: no vectoriser."""
    parsed = llvm().parse_assembly(str(module))
    parsed.verify()
    tuning = llvm().create_pipeline_tuning_options(speed_level=2)
    tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_interleaving = False
    passes = llvm().create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(parsed, passes)
    return parsed


def emit(module: ir.Module, target: Target, machine: Any) -> bytes:
    """The object file of a generated module."""
    return bytes(machine.emit_object(optimise(module, machine)))


def assembly(module: ir.Module, target: Target) -> str:
    """The machine's text, for a look at what LLVM made of it, also for a machine that is not this one."""
    llvm().initialize_all_targets()
    llvm().initialize_all_asmprinters()
    machine = machine_of(target)
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    return str(machine.emit_assembly(optimise(module, machine)))


def _key(target: Target, parameters: Sequence[object]) -> str:
    found = [(str(source), source.stat()) for source in sorted(SOURCES.rglob("*.py"))]
    sources = _digest_of(tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found))
    return hashlib.sha256(sources + repr((target, tuple(parameters), llvmlite.__version__)).encode()).hexdigest()[:24]


@functools.cache
def _digest_of(sources: tuple[tuple[str, int, int], ...]) -> bytes:
    """Of the texts of files, which are read once while they stay as they are: path, size and time of each."""
    digest = hashlib.sha256()
    for name, _, _ in sources:
        digest.update(Path(name).read_bytes())
    return digest.digest()
