"""From kernels to Python functions, with the machine code kept on disk: compiled once in two seconds, then loaded.

The key of a kept object is all that it depends on: the sources of kernels and of this compiler, the signatures, the
machine, the versions of LLVM and Python. Where sources lie does not matter, so all installations of the same sources
share it.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llvmlite import ir

from stemma.fsm.machine.entries import Entry, callable_at
from stemma.fsm.machine.program import Kernel, Program
from stemma.fsm.machine.reading import Reading, addresses
from stemma.fsm.machine.values import Type
from stemma.machine_code import check_executable, keep_code, llvm, read_code

Signatures = Mapping[Kernel, Sequence[Type]]
log = logging.getLogger(__name__)


class Machine(NamedTuple):
    """What LLVM makes code for: it looks at the machine at hand."""

    triple: str
    cpu: str
    features: str

    @classmethod
    def here(cls) -> Machine:
        return cls(llvm().get_process_triple(), llvm().get_host_cpu_name(), llvm().get_host_cpu_features().flatten())


def load(signatures: Signatures, kernels: frozenset[Kernel], folder: Path) -> dict[str, Callable[..., Any]]:
    """Functions by name for the kernels of `signatures`, which may call all `kernels`; kept in `folder`.

    A file that is not whole is made again; where none can be written, it is compiled by each process. Raises
    NoExecutableMemory where the system gives none.
    """
    check_executable()
    llvm().initialize_native_target()
    llvm().initialize_native_asmprinter()
    machine = Machine.here()
    path = folder / f"kernels-{_key(signatures, kernels, machine)}.o"
    code = read_code(path)
    if code is None:
        started = time.perf_counter()
        code = compile_kernels(signatures, kernels, machine)
        log.info("compiled the automaton's kernels in %.1f s into %s", time.perf_counter() - started, path)
        keep_code(path, code)
    return _functions(code, [kernel.__name__ for kernel in signatures], machine)


def compile_kernels(signatures: Signatures, kernels: frozenset[Kernel], machine: Machine) -> bytes:
    """The object file of all entries and what they call, each function once."""
    target = _target(machine)
    module = ir.Module("kernels")
    module.triple, module.data_layout = machine.triple, str(target.target_data)
    program, reading = Program(module, kernels), Reading(module)
    for kernel, types in signatures.items():
        Entry(program, reading, kernel, tuple(types)).write(lets_others_run=True)
    parsed = llvm().parse_assembly(str(module))
    parsed.verify()
    passes = llvm().create_pass_builder(target, llvm().create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(parsed, passes)
    return bytes(target.emit_object(parsed))


def _target(machine: Machine) -> Any:
    made = llvm().Target.from_triple(machine.triple)
    return made.create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=2, jit=True, codemodel="jitdefault"
    )


_alive: list[Any] = []
"""Code and what describes it: functions of Python refer to them for as long as the process lives."""


def _functions(code: bytes, names: Sequence[str], machine: Machine) -> dict[str, Callable[..., Any]]:
    for name, address in addresses().items():
        llvm().add_symbol(name, address)
    empty = llvm().parse_assembly(f'target triple = "{machine.triple}"\n')
    engine = llvm().create_mcjit_compiler(empty, _target(machine))
    engine.add_object_file(llvm().ObjectFileRef.from_data(code))
    engine.finalize_object()
    _alive.append(engine)
    functions = {}
    for name in names:
        functions[name], definition = callable_at(engine.get_function_address(name), name)
        _alive.append(definition)
    return functions


def _key(signatures: Signatures, kernels: frozenset[Kernel], machine: Machine) -> str:
    files = {inspect.getfile(kernel) for kernel in kernels} | {str(path) for path in Path(__file__).parent.glob("*.py")}
    digest = hashlib.sha256()
    for _, path in sorted((Path(file).name, file) for file in files):
        digest.update(Path(path).read_bytes())
    described = [(kernel.__name__, list(types)) for kernel, types in signatures.items()]
    versions = (llvm().llvm_version_info, sys.implementation.cache_tag, object.__basicsize__)
    digest.update(repr((described, machine, versions)).encode())
    return digest.hexdigest()[:24]
