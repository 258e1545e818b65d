"""Compile every shipped launch for a GPU that is not there, and read from the machine code what it will do.

    python -m stemma.kernels.triton.proof sm_90        one line a kernel, as JSON

Runs in a process of its own, without TRITON_INTERPRET. Uses the assembler and the disassembler that triton brings.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from stemma.kernels.triton.shipped import Specimen, specimens
from stemma.kernels.triton.targets import PROVED, Target

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
THREADS_PER_MULTIPROCESSOR = 2048
PROGRAMS_PER_MULTIPROCESSOR = 32
NOTHING_MULTIPLIED: dict[str, Any] = {"spills": 0, "tensor_core": {}, "async_copies": 0, "conversions": 0}


class Compiled(NamedTuple):
    """What a kernel became.

    spills: instructions that write or read the stack; stack: its bytes. tensor_core: matrix instructions, by name.
    async_copies: copies to shared memory that bypass registers; conversions: of integers to floats (both: NVIDIA, and 0
    where nothing is multiplied). widest_load: in bits. programs: how many fit one multiprocessor.
    """

    target: str
    title: str
    kernel: str
    dots: int
    registers: int
    stack: int
    spills: int
    shared: int
    shared_limit: int
    num_warps: int
    tensor_core: dict[str, int]
    async_copies: int
    conversions: int
    widest_load: int
    programs: int
    occupancy: float


def compile_specimen(specimen: Specimen, target: Target) -> Any:
    """triton's compiled kernel; kept in triton's cache directory by the hash of its source."""
    names = specimen.kernel.arg_names
    signature = {name: specimen.types.get(name, "constexpr") for name in names}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in specimen.aligned}
    source = ASTSource(specimen.kernel, signature, specimen.constants, attributes)
    options = {"num_warps": specimen.num_warps, "num_stages": specimen.num_stages, **specimen.options}
    return triton.compile(source, target=GPUTarget(target.backend, target.arch, target.warp_size), options=options)


def prove(specimen: Specimen, target: Target) -> Compiled:
    binary = compile_specimen(specimen, target)
    dots = len(re.findall(r"tt\.dot ", binary.asm["ttir"]))
    facts = read_cuda(binary.asm, dots > 0) if target.backend == "cuda" else read_hip(binary.asm["amdgcn"])
    shared = int(binary.metadata.shared)
    programs = programs_that_fit(target, int(facts["registers"]), shared, specimen.num_warps)
    threads = 2048 if target.backend == "cuda" else 32 * target.warp_size
    return Compiled(
        target.name,
        specimen.title,
        specimen.kernel.__name__,
        dots,
        shared=shared,
        shared_limit=target.shared_per_program,
        num_warps=specimen.num_warps,
        programs=programs,
        occupancy=round(programs * specimen.num_warps * target.warp_size / threads, 3),
        **facts,
    )


def read_cuda(asm: Any, multiplies: bool) -> dict[str, Any]:
    """Registers and stack as the assembler noted them; the rest from the machine code, where there is more to know.

    Disassembling takes a quarter to half a second of processor time. A kernel without products and without a stack has
    nowhere to spill to, and its loads are as wide as the assembler was told.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(asm["cubin"])
        file.flush()
        registers, *stacks = re.findall(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", dump("-res-usage", file.name))[0]
        usage = {"registers": int(registers), "stack": sum(map(int, stacks))}
        if multiplies or usage["stack"]:
            return usage | read_sass(dump("-sass", file.name))
    return usage | NOTHING_MULTIPLIED | {"widest_load": widest(asm["ptx"])}


def widest(ptx: str) -> int:
    loads = re.findall(r"\bld\.global\S*?(?:\.v(\d))?\.[a-z](\d+)\b", ptx)
    return max([32, *(int(many or 1) * int(bits) for many, bits in loads)])


def dump(option: str, cubin: str) -> str:
    return subprocess.run([CUOBJDUMP, option, cubin], capture_output=True, text=True, check=True).stdout


def read_sass(sass: str) -> dict[str, Any]:
    instructions = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z0-9_.a-z]+)", sass, re.MULTILINE)
    loads = [i for i in instructions if i.startswith(("LDG", "LDGSTS"))]
    return {
        "spills": sum(i.startswith(("STL", "LDL")) for i in instructions),
        "tensor_core": tally(i for i in instructions if re.match(r"(HMMA|IMMA|QMMA|HGMMA|QGMMA|IGMMA|UTC\w*MMA)", i)),
        "async_copies": sum(i.startswith(("LDGSTS", "UTMALDG")) for i in instructions),
        "conversions": sum(i.startswith("I2F") for i in instructions),
        "widest_load": max((int(bits) for i in loads for bits in re.findall(r"\.(64|128|256)\b", i)), default=32),
    }


def read_hip(assembly: str) -> dict[str, Any]:
    def number(field: str) -> int:
        return int(re.findall(rf"\.{field}:\s+(\d+)", assembly)[0])

    widths = re.findall(r"(?:global|buffer)_load_dword(?:x(\d))?\b", assembly)
    return {
        "registers": number("vgpr_count"),
        "stack": number("private_segment_fixed_size"),
        "spills": number("vgpr_spill_count") + len(re.findall(r"\bscratch_(?:load|store)", assembly)),
        "tensor_core": tally(re.findall(r"\bv_mfma_\w+", assembly)),
        "async_copies": 0,
        "conversions": 0,
        "widest_load": max((32 * int(width or 1) for width in widths), default=32),
    }


def tally(names: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def programs_that_fit(target: Target, registers: int, shared: int, num_warps: int) -> int:
    """Programs on one multiprocessor at a time, by registers, shared memory and threads.

    NVIDIA: 65,536 registers, given to a warp in units of 256, and 1 KiB of shared memory that each program takes
    besides its own. AMD: 512 registers a lane on each of four SIMDs, in units of 8, at most 8 wavefronts a SIMD.
    """
    if target.backend == "hip":
        waves = min(8, 512 // (-(-registers // 8) * 8)) * 4
        by_shared = target.shared_per_multiprocessor // shared if shared else waves
        return min(waves // num_warps, by_shared)
    by_registers = 65_536 // (-(-registers // 8) * 8 * 32 * num_warps)
    by_shared = target.shared_per_multiprocessor // (shared + 1024)
    by_threads = THREADS_PER_MULTIPROCESSOR // (32 * num_warps)
    return min(by_registers, by_shared, by_threads, PROGRAMS_PER_MULTIPROCESSOR)


def main(name: str) -> None:
    target = {target.name: target for target in PROVED}[name]
    for specimen in specimens(target):
        print(json.dumps(prove(specimen, target)._asdict()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
