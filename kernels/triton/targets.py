"""The GPUs the kernels are made for: what each can hold, and the tile sizes that were chosen for it.

How the tiles were chosen, and what each compiles to: docs/measurements/kernels-gpu.md, which
`benchmarks/kernels.py --tables` makes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
import triton

Family = Literal["ampere", "hopper", "blackwell", "cdna3"]
KVType = Literal["activation", "int8", "fp8"]
KV_TYPES: tuple[KVType, ...] = get_args(KVType)


class Target(NamedTuple):
    """One GPU architecture. Registers are 32-bit, of one multiprocessor (AMD: of one lane of one SIMD).

    multiprocessors: of the GPU at hand; where there is none, of the one that has most: A100, H100, B200, MI300X.
    """

    name: str
    family: Family
    backend: Literal["cuda", "hip"]
    arch: int | str
    warp_size: int
    shared_per_program: int
    shared_per_multiprocessor: int
    multiprocessors: int


SM_80 = Target("sm_80", "ampere", "cuda", 80, 32, 166_912, 167_936, 108)
SM_90 = Target("sm_90", "hopper", "cuda", 90, 32, 232_448, 233_472, 132)
SM_100 = Target("sm_100", "blackwell", "cuda", 100, 32, 232_448, 233_472, 148)
GFX942 = Target("gfx942", "cdna3", "hip", "gfx942", 64, 65_536, 65_536, 304)

PROVED = (SM_80, SM_90, SM_100, GFX942)
"""The targets every shipped configuration is compiled for in the tests."""

INTERPRETED = 1
"""Multiprocessors of the interpreter, which runs programs one after the other."""

SMALL_SHARED = 101_376
"""What a program may use on compute capability 8.6, 8.9 and 12.0: they run the configurations of sm_80, which fit."""


class AttentionTile(NamedTuple):
    """rows: (token, query head) pairs; tokens: KV positions of one step of the loop. programs: on a multiprocessor, as
    many as fit it at a time. registers: at most so many a thread, or 0, as of a LinearTile."""

    rows: int
    tokens: int
    num_warps: int
    num_stages: int
    programs: int
    registers: int = 0


class LinearTile(NamedTuple):
    """rows of x, outputs, and depth: input features of one step of the loop. slots: of `few_rows_product`, or 0.
    registers: at most so many a thread, or 0: what the assembler likes. Left to itself it spills a few where one more
    program would fit then."""

    rows: int
    outputs: int
    depth: int
    num_warps: int
    num_stages: int
    slots: int = 0
    registers: int = 0


class UnsupportedDevice(ValueError):
    """There are no kernels for this device, or not with these types."""


def cdiv(number: int, by: int) -> int:
    """Divided, and rounded up. Triton's own is made for kernels, and takes the host a hundred times as long."""
    return -(-number // by)


def power_of_2(number: int) -> int:
    """The least that is not smaller; likewise."""
    return 1 << max(number - 1, 0).bit_length()


def target_of(device: torch.device) -> Target:
    """The target of a torch device; in the interpreter, which runs on the CPU, that of Hopper.

    Raises UnsupportedDevice for a device the kernels are not made for.
    """
    if triton.knobs.runtime.interpret:
        return SM_90._replace(multiprocessors=INTERPRETED)
    if device.type != "cuda":
        raise UnsupportedDevice(f"the Triton kernels do not run on {device}; use the CPU back end or a GPU")
    architecture = architecture_of(device)
    return architecture._replace(multiprocessors=torch.cuda.get_device_properties(device).multi_processor_count)


def architecture_of(device: torch.device) -> Target:
    """Of a GPU. Raises UnsupportedDevice."""
    if torch.version.hip is not None:
        name = str(torch.cuda.get_device_properties(device).gcnArchName).split(":")[0]
        if name != "gfx942":
            raise UnsupportedDevice(f"{name} is not supported: on AMD the kernels are made for gfx942 (MI300)")
        return GFX942
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) == (8, 0):
        return SM_80
    if major == 9:
        return SM_90
    if major == 10:
        return SM_100._replace(name=f"sm_{major}{minor}", arch=10 * major + minor)
    if major in (8, 12):
        arch = 10 * major + minor
        return Target(f"sm_{arch}", "ampere", "cuda", arch, 32, SMALL_SHARED, SMALL_SHARED + 1024, 0)
    raise UnsupportedDevice(
        f"compute capability {major}.{minor} is not supported: the kernels are made for 8, 9, 10 and 12"
    )


def check_activation(dtype: torch.dtype) -> None:
    """Raises UnsupportedDevice for a type of activations that the kernels are not made for."""
    known = (torch.bfloat16, torch.float16, *([torch.float32] if triton.knobs.runtime.interpret else []))
    if dtype not in known:
        raise UnsupportedDevice(f"activations of {dtype} are not supported; use bfloat16 or float16")


def kv_element(target: Target, kv_type: KVType, activation: torch.dtype) -> torch.dtype:
    """The element type of the KV pool.

    Raises UnsupportedDevice for fp8 where the device has no e4m3.
    """
    if kv_type == "activation":
        return activation
    if kv_type == "int8":
        return torch.int8
    if target.backend == "hip":
        return torch.float8_e4m3fnuz
    if isinstance(target.arch, int) and target.arch < 89:
        raise UnsupportedDevice(f"{target.name} has no e4m3; use int8 KV, which is more exact anyway")
    return torch.float8_e4m3fn


Tile = AttentionTile

# By family and whether KV elements have eight bits; for head dimensions up to 64, up to 128, up to 256. Chosen by what
# they compile to: the most programs on a multiprocessor for decode, the largest tile without spills for the rest.
NARROW: dict[tuple[Family, bool], tuple[Tile, Tile, Tile]] = {
    ("ampere", False): (Tile(16, 64, 4, 3, 3), Tile(16, 32, 4, 3, 3), Tile(16, 16, 4, 3, 3)),
    ("ampere", True): (Tile(16, 64, 4, 3, 3), Tile(16, 64, 4, 3, 3), Tile(16, 32, 4, 3, 2)),
    ("hopper", False): (Tile(16, 64, 4, 3, 6), Tile(16, 32, 4, 3, 4), Tile(16, 16, 4, 3, 3)),
    ("hopper", True): (Tile(16, 64, 4, 3, 4), Tile(16, 128, 4, 2, 3), Tile(16, 32, 4, 3, 3)),
    ("blackwell", False): (Tile(16, 64, 4, 3, 5), Tile(16, 32, 4, 3, 4), Tile(16, 16, 4, 3, 2)),
    ("blackwell", True): (Tile(16, 64, 4, 3, 4), Tile(16, 64, 4, 3, 4), Tile(16, 32, 4, 3, 3)),
    ("cdna3", False): (Tile(16, 32, 4, 2, 4), Tile(16, 32, 4, 2, 3), Tile(16, 16, 4, 2, 3)),
    ("cdna3", True): (Tile(16, 32, 4, 2, 3), Tile(16, 32, 4, 2, 3), Tile(16, 16, 4, 2, 2)),
}
WIDE: dict[tuple[Family, bool], tuple[Tile, Tile, Tile]] = {
    ("ampere", False): (Tile(128, 32, 8, 2, 1), Tile(128, 32, 8, 2, 1), Tile(64, 32, 8, 2, 1)),
    ("ampere", True): (Tile(128, 64, 8, 2, 1), Tile(128, 32, 8, 2, 1), Tile(64, 16, 8, 2, 1)),
    ("hopper", False): (Tile(128, 64, 8, 3, 1), Tile(128, 64, 8, 3, 1), Tile(64, 32, 8, 2, 1)),
    ("hopper", True): (Tile(128, 64, 8, 2, 1), Tile(128, 64, 8, 2, 1), Tile(64, 32, 8, 2, 1)),
    ("blackwell", False): (Tile(64, 32, 8, 2, 1), Tile(128, 64, 8, 3, 1), Tile(64, 32, 8, 2, 1)),
    ("blackwell", True): (Tile(64, 64, 8, 2, 1, 255), Tile(128, 64, 8, 2, 1), Tile(64, 32, 8, 2, 1)),
    ("cdna3", False): (Tile(64, 32, 4, 2, 3), Tile(64, 32, 4, 2, 2), Tile(64, 32, 4, 2, 1)),
    ("cdna3", True): (Tile(64, 16, 4, 2, 3), Tile(64, 16, 4, 2, 3), Tile(64, 16, 4, 2, 1)),
}


def choose_head(tiles: tuple[Tile, Tile, Tile], head_pad: int) -> AttentionTile:
    """Raises UnsupportedDevice for heads of more than 256 dimensions."""
    if head_pad > 256:
        raise UnsupportedDevice(f"heads of {head_pad} dimensions are not supported: the kernels go up to 256")
    return tiles[0 if head_pad <= 64 else 1 if head_pad <= 128 else 2]


def narrow_tile(target: Target, head_pad: int, kv_bytes: int) -> AttentionTile:
    """Decode: as few rows as a tensor core takes, and enough loads in flight to keep the memory busy."""
    return choose_head(NARROW[target.family, kv_bytes == 1], head_pad)


def wide_tile(target: Target, head_pad: int, kv_bytes: int) -> AttentionTile:
    """Prefill and shared prefixes: many rows, for the tensor cores' sake."""
    return choose_head(WIDE[target.family, kv_bytes == 1], head_pad)


class CellTile(NamedTuple):
    """Of a state that walks through cells of 64 tokens. columns: of a panel (of Mamba-2: outputs of a head)."""

    columns: int
    num_warps: int
    num_stages: int


CELLS: dict[Family, CellTile] = {
    "ampere": CellTile(32, 8, 2),
    "hopper": CellTile(32, 4, 2),
    "blackwell": CellTile(32, 8, 2),
    "cdna3": CellTile(16, 4, 1),
}
SCAN_CELLS: dict[Family, CellTile] = {
    "ampere": CellTile(16, 8, 2),
    "hopper": CellTile(32, 4, 2),
    "blackwell": CellTile(32, 8, 2),
    "cdna3": CellTile(16, 4, 1),
}

FEW, SOME, MANY = 16, 64, 128

# For up to 16, up to 64 and more rows.
LINEAR: dict[Family, tuple[LinearTile, LinearTile, LinearTile]] = {
    "ampere": (LinearTile(FEW, 64, 128, 4, 4), LinearTile(SOME, 64, 64, 4, 3), LinearTile(SOME, 128, 64, 8, 3)),
    "hopper": (LinearTile(FEW, 64, 128, 4, 4), LinearTile(SOME, 64, 64, 4, 3), LinearTile(MANY, 128, 64, 8, 3)),
    # Not 128 x 128: of that, Triton 3.7.1 makes an empty kernel for weights of four bits.
    "blackwell": (LinearTile(FEW, 64, 64, 4, 4), LinearTile(SOME, 64, 64, 4, 3), LinearTile(SOME, 64, 64, 4, 3)),
    "cdna3": (LinearTile(FEW, 64, 128, 4, 2), LinearTile(32, 64, 64, 4, 2), LinearTile(SOME, 128, 64, 8, 2)),
}


# Of four bits, for up to 8 and up to 16 rows: with as many slots, so that a row's sums are the same in both.
FEW_NIBBLES: dict[Family, tuple[LinearTile, LinearTile]] = {
    "ampere": (LinearTile(8, 64, 256, 4, 3, 4, 128), LinearTile(FEW, 64, 256, 4, 3, 4)),
    "hopper": (LinearTile(8, 64, 256, 4, 3, 4, 128), LinearTile(FEW, 64, 256, 4, 3, 4)),
    "blackwell": (LinearTile(8, 64, 256, 4, 3, 4, 128), LinearTile(FEW, 64, 256, 4, 3, 4)),
    "cdna3": (LinearTile(FEW, 64, 256, 4, 2, 4), LinearTile(FEW, 64, 256, 4, 2, 4)),
}


def linear_tile(target: Target, num_rows: int, four_bits: bool = False) -> LinearTile:
    """Few rows: bound by the weights' bytes. Many: by the tensor cores."""
    if four_bits and num_rows <= FEW:
        return FEW_NIBBLES[target.family][num_rows > 8]
    few, some, many = LINEAR[target.family]
    return few if num_rows <= FEW else some if num_rows <= SOME else many


FEWEST_PROGRAMS = 256
"""Of a product with few rows: about two for each multiprocessor of a large GPU."""


def linear_splits(in_features: int, out_features: int) -> int:
    """Parts of the inputs that programs have with few rows: by the shape alone, so that sums do not depend on the step.
    A power of two; each part has 1024 inputs or more."""
    splits, tiles = 1, cdiv(out_features, 64)
    while tiles * splits < FEWEST_PROGRAMS and in_features >= 2048 * splits:
        splits *= 2
    return splits
