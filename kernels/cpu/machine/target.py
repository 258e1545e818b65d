"""What this machine can do, found before anything is compiled, and the one operation that each machine spells its own
way: the dot product of bytes.

LLVM aborts the process when it meets an instruction the machine lacks, so a target is chosen from the flags alone. The
environment variable STEMMA_TARGET names a lesser one, for a look at what other machines get.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stemma.kernels.cpu.machine.arm import arm_flags
from stemma.kernels.cpu.machine.cpuinfo import x86_cpu, x86_flags
from stemma.kernels.cpu.machine.dialect import I8, I16, I32, Code, Value, vector
from stemma.machine_code import llvm

VECTOR_BYTES, BYTES16 = vector(I8, 64), vector(I8, 16)
VECTOR_INTS, WORDS = vector(I32, 16), vector(I16, 32)
DIGITS, LARGEST_DIGIT, LARGEST_WORD = 2, 128, (1 << 15) - 1
Activations = Callable[[int, int], Value]
"""digit, 0 for the high one, and number of a vector of weights -> what it is multiplied by."""
ARCH_PRCTL, REQUEST, TILE_DATA = 158, 0x1023, 18
ARM_MACHINES = ("arm64", "aarch64")


class UnsupportedCPU(RuntimeError):
    """This machine has none of the instruction sets the compiled kernels are written for."""


class UnknownTarget(ValueError):
    """STEMMA_TARGET names an instruction set that does not exist, or that this machine lacks."""


@dataclass(frozen=True, slots=True)
class Target:
    """An instruction set.

    name: amx, avx512-vnni, avx512, avx-vnni, avx2, neon-i8mm, neon-dotprod or neon.
    triple, cpu, features: what LLVM is told.
    accumulators: vectors of 16 floats that can be summed into without leaving the registers.
    streams: whether memory that is read once can be fetched past the caches at full speed.
    adds_beside: whether twice as many words are added as are multiplied, and beside it.
    """

    name: str
    triple: str
    cpu: str
    features: str
    accumulators: int
    streams: bool = False
    adds_beside: bool = False

    @property
    def reads_files(self) -> bool:
        """Whether products take weights from a file as it has them, where that is as fast: not on a matrix unit, which
        waits for vectors to unpack them."""
        return self.name in ("avx512-vnni", "avx512", "avx-vnni", "avx2")

    @property
    def multiplies_bytes(self) -> bool:
        """Whether one instruction adds up four products of bytes (`dot`)."""
        return self.name not in ("avx512", "avx2")

    @property
    def is_arm(self) -> bool:
        """Whether vectors are NEON's, of 128 bits."""
        return self.name.startswith("neon")

    @property
    def byte_offset(self) -> int:
        """Eight-bit weights are stored with this added: x86 multiplies unsigned by signed bytes, NEON signed ones."""
        return 0 if self.is_arm else 128

    @property
    def max_rows(self) -> int:
        """Rows of activations one pass over a tile of weights serves."""
        return 8 if self.accumulators >= 16 else 4

    def nearness(self, num_rows: int) -> int:
        """How near weights are fetched for a pass of so many rows (`Code.prefetch`). Behind a single row they are not
        needed again, and caches had better keep what comes back in each step, the interpreter's code too."""
        return 0 if self.streams and num_rows == 1 else 3

    def asks_ahead(self, stretches: int) -> bool:
        """Whether weights are asked for before they are read, where so many stretches are read side by side. Zen finds
        four of them itself, and faster."""
        return not (self.streams and stretches >= 4)

    def dot(self, code: Code, sums: Value, weights: Value, activations: Value) -> Value:
        """Add to each of 16 sums the products of its 4 weights with its 4 activations, where the machine has such an
        instruction.

        weights: 64 bytes, unsigned (signed on NEON). activations: 16 integers of 4 signed bytes each.
        """
        if self.name in ("amx", "avx512-vnni"):
            return _vpdpbusd(code, 512, sums, weights, activations)
        if self.name == "avx-vnni":
            return _in_parts(code, 2, sums, weights, activations, lambda c, s, w, a: _vpdpbusd(c, 256, s, w, a))
        assert self.is_arm, f"{self.name} multiplies pairs of bytes"
        return _in_parts(code, 4, sums, weights, activations, _widened_dot if self.name == "neon" else _sdot)

    def dots(self, code: Code, weights: Sequence[Value], activations: Activations, largest: int) -> list[Value]:
        """Of each of 16 outputs, the sum of all products, with the high and with the low digits of activations: exact,
        if it fits 32 bits. largest: of the weights."""
        if not self.multiplies_bytes:
            return self._dots_of_pairs(code, weights, activations, largest)
        totals = [code.constant(VECTOR_INTS, 0) for _ in range(DIGITS)]
        for j, weight in enumerate(weights):
            totals = [self.dot(code, total, weight, activations(digit, j)) for digit, total in enumerate(totals)]
        return totals

    def matrix_dots(self, code: Code, weights: Sequence[Value], activations: Activations) -> list[Value]:
        """The same by an instruction that multiplies two rows of eight bytes with two others (i8mm): the digits with
        two outputs at a time. activations(digit, j): the eight bytes of vectors j and j + 1 of weights, an integer.
        Ordering the weights costs what the instruction saves for one row, so it is for several, which share that.
        """
        sums = [code.constant(vector(I32, 4), 0) for _ in range(8)]
        digits = [code.splat(activations(digit, j), 1) for j in range(0, len(weights), 2) for digit in range(DIGITS)]
        for j in range(0, len(weights), 2):
            both = code.shuffle(digits[j], digits[j + 1], (0, 1)).bits(BYTES16)
            one, other = (weight.bits(VECTOR_INTS) for weight in weights[j : j + 2])
            for pair, total in enumerate(sums):
                lanes = (2 * pair, 16 + 2 * pair, 2 * pair + 1, 17 + 2 * pair)
                outputs = code.shuffle(one, other, lanes).bits(BYTES16)
                name = "llvm.aarch64.neon.smmla.v4i32.v16i8"
                sums[pair] = code.intrinsic(name, total.type, total, both, outputs)
        halves = [[code.shuffle(total, total, lanes) for total in sums] for lanes in ((0, 1), (2, 3))]
        return [_joined(code, half) for half in halves]

    def _dots_of_pairs(
        self, code: Code, weights: Sequence[Value], activations: Activations, largest: int
    ) -> list[Value]:
        """Sums of two products have 16 bits; so many of them are added up there as fit. Codes of 8 bits are halved."""
        bits = 512 if self.name == "avx512" else 256
        shifts = (0,) if largest < 128 else (0, 4)
        run = LARGEST_WORD // (2 * LARGEST_DIGIT * min(largest, 15 if len(shifts) == 2 else largest))
        totals: list[list[Value]] = [[] for _ in range(DIGITS)]
        for first in range(0, len(weights), run):
            sums: list[list[Value]] = [[] for _ in range(DIGITS)]
            for j in range(first, min(first + run, len(weights))):
                parts = [_four_bits(weights[j], shift) for shift in shifts] if len(shifts) == 2 else [weights[j]]
                for digit, found in enumerate(sums):
                    products = [_multiply_bytes(code, bits, part, activations(digit, j)) for part in parts]
                    found[:] = [one + other for one, other in zip(found, products, strict=True)] if found else products
            for total, found in zip(totals, sums, strict=True):
                for shift, words in zip(shifts, found, strict=True):
                    total.append(_multiply_all_pairs(code, bits, words, code.constant(WORDS, 1 << shift)))
        return [sum(total[1:], start=total[0]) for total in totals]

    def dot_words(self, code: Code, sums: Value, weights: Value, activations: Value) -> Value:
        """Add to each of 16 sums, or 8, two products of words of 16 bits; NEON has no such instruction.

        weights, activations: for each sum two signed words. Two products must fit 32 bits.
        """
        lanes = sums.type.count
        if self.name in ("amx", "avx512-vnni") or (self.name == "avx-vnni" and lanes == 8):
            return _vpdpwssd(code, 32 * lanes, sums, weights, activations)
        if self.name == "avx512" or lanes == 8:
            return sums + _multiply_pairs(code, 32 * lanes, weights, activations)
        narrow = _vpdpwssd if self.name == "avx-vnni" else _add_pairs
        return _in_parts(code, 2, sums, weights, activations, lambda c, s, w, a: narrow(c, 256, s, w, a))

    @staticmethod
    def multiply_words(code: Code, weights: Value, activations: Value) -> Value:
        """8 sums of two products, of 16 words each."""
        return _multiply_pairs(code, 256, weights, activations)

    @staticmethod
    def even_bytes(code: Code, words: Value) -> Value:
        """The lower bytes of 16 words, with their signs: by a product with 1, beside which there is room for shifts."""
        name, ones = "llvm.x86.avx2.pmadd.ub.sw", code.constant(vector(I8, 32), [1, 0] * 16)
        return code.intrinsic(name, words.type, ones, words.bits(ones.type))

    def look_up(self, code: Code, table: Value, places: Value) -> Value:
        """64 bytes of a table of 16, which stands in every 16 of its vector; places: 64 bytes below 16."""
        if self.is_arm:
            return _each(code, 4, table, places, "llvm.aarch64.neon.tbl1.v16i8")
        if self.name in ("avx-vnni", "avx2"):
            return _each(code, 2, table, places, "llvm.x86.avx2.pshuf.b")
        return code.intrinsic("llvm.x86.avx512.pshuf.b.512", VECTOR_BYTES, table, places)


def _each(code: Code, parts: int, table: Value, places: Value, name: str) -> Value:
    """An operation on two vectors narrower than 512 bits, part by part."""
    kind, width = vector(I8, 64 // parts), 64 // parts
    pieces = []
    for part in range(parts):
        chosen = range(part * width, (part + 1) * width)
        pieces.append(
            code.intrinsic(name, kind, code.shuffle(table, table, chosen), code.shuffle(places, places, chosen))
        )
    return _joined(code, pieces)


def _vpdpbusd(code: Code, bits: int, sums: Value, weights: Value, activations: Value) -> Value:
    kind = vector(I8, bits // 8) if llvm().llvm_version_info >= (22,) else vector(I32, bits // 32)
    name = f"llvm.x86.avx512.vpdpbusd.{bits}"
    return code.intrinsic(name, sums.type, sums, weights.bits(kind), activations.bits(kind))


def _vpdpwssd(code: Code, bits: int, sums: Value, weights: Value, activations: Value) -> Value:
    kind = vector(I16, bits // 16) if llvm().llvm_version_info >= (22,) else vector(I32, bits // 32)
    name = f"llvm.x86.avx512.vpdpwssd.{bits}"
    return code.intrinsic(name, sums.type, sums, weights.bits(kind), activations.bits(kind))


def _multiply_pairs(code: Code, bits: int, weights: Value, activations: Value) -> Value:
    name, kind = {512: "llvm.x86.avx512.pmaddw.d.512", 256: "llvm.x86.avx2.pmadd.wd"}[bits], vector(I16, bits // 16)
    return code.intrinsic(name, vector(I32, bits // 32), weights.bits(kind), activations.bits(kind))


def _add_pairs(code: Code, bits: int, sums: Value, weights: Value, activations: Value) -> Value:
    return sums + _multiply_pairs(code, bits, weights, activations)


def _sdot(code: Code, sums: Value, weights: Value, activations: Value) -> Value:
    name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
    return code.intrinsic(name, sums.type, sums, weights.bits(BYTES16), activations.bits(BYTES16))


def _widened_dot(code: Code, sums: Value, weights: Value, activations: Value) -> Value:
    """Products as words, of which two might not fit a word: pairs are added as integers of 32 bits, then those."""
    products = []
    for half in (range(8), range(8, 16)):
        bytes_ = [code.shuffle(one, one, half) for one in (weights.bits(BYTES16), activations.bits(BYTES16))]
        words = code.intrinsic("llvm.aarch64.neon.smull.v8i16", vector(I16, 8), *bytes_)
        products.append(code.intrinsic("llvm.aarch64.neon.saddlp.v4i32.v8i16", sums.type, words))
    return sums + code.intrinsic("llvm.aarch64.neon.addp.v4i32", sums.type, *products)


def _four_bits(codes: Value, shift: int) -> Value:
    return codes.bits(WORDS).unsigned_shift_right(shift).bits(VECTOR_BYTES) & 15 if shift else codes & 15


def _multiply_bytes(code: Code, bits: int, weights: Value, activations: Value) -> Value:
    """64 unsigned bytes and 64 signed ones: sums of two products, words. They must fit."""
    activations = activations.bits(VECTOR_BYTES)
    if bits == 512:
        return code.intrinsic("llvm.x86.avx512.pmaddubs.w.512", WORDS, weights, activations)
    return _halves(code, "llvm.x86.avx2.pmadd.ub.sw", vector(I16, 16), weights, activations)


def _multiply_all_pairs(code: Code, bits: int, one: Value, other: Value) -> Value:
    """32 words and 32 others: sums of two products."""
    if bits == 512:
        return _multiply_pairs(code, bits, one, other)
    return _halves(code, "llvm.x86.avx2.pmadd.wd", vector(I32, 8), one, other)


def _halves(code: Code, name: str, kind: object, one: Value, other: Value) -> Value:
    """An operation on vectors of 256 bits, on both halves of two of 512."""
    count = one.type.count
    parts = [range(count // 2), range(count // 2, count)]
    return _joined(code, [
        code.intrinsic(name, kind, code.shuffle(one, one, part), code.shuffle(other, other, part)) for part in parts
    ])  # fmt: skip


def _in_parts(code: Code, parts: int, sums: Value, weights: Value, activations: Value, dot: object) -> Value:
    """Run a dot product that is narrower than 512 bits on each part, and put the parts together."""
    assert callable(dot)
    lanes = 16 // parts
    weights, activations = weights.bits(VECTOR_INTS), activations.bits(VECTOR_INTS)
    pieces = []
    for part in range(parts):
        chosen = range(part * lanes, (part + 1) * lanes)
        pick = [code.shuffle(v, v, chosen) for v in (sums, weights, activations)]
        pieces.append(dot(code, *pick))
    return _joined(code, pieces)


def _joined(code: Code, pieces: list[Value]) -> Value:
    """Vectors one after the other."""
    while len(pieces) > 1:
        width = pieces[0].type.count
        pieces = [
            code.shuffle(low, high, range(2 * width)) for low, high in zip(pieces[::2], pieces[1::2], strict=True)
        ]
    return pieces[0]


X86_FLAGS = {  # best first: what LLVM calls the flags each needs
    "amx": (
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512vbmi",
        "amx-tile",
        "amx-int8",
        "avx2",
        "fma",
        "f16c",
    ),
    "avx512-vnni": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx2", "fma", "f16c"),
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c"),
    "avx-vnni": ("avxvnni", "avx2", "fma", "f16c"),
    "avx2": ("avx2", "fma", "f16c"),
}
ARM_FLAGS: dict[str, tuple[str, ...]] = {"neon-i8mm": ("dotprod", "i8mm"), "neon-dotprod": ("dotprod",), "neon": ()}
"""Best first. Products of bfloat16 (`bf16`) are not among them: they round activations to 8 bits, and sums in ways of
their own, while weights of that type times floats are exact by a shift and FMA (`products/linear.py`)."""


def choose(machine: str, flags: Mapping[str, bool], cpu: str, triple: str, wanted: str | None = None) -> Target:
    """The best instruction set among `flags` (LLVM's names), or the one that is wanted. Raises UnsupportedCPU, and
    UnknownTarget if what is wanted is none, or is not among them."""
    writes = bool(flags.get("prfchw"))
    if wanted:
        flags = _flags_of(wanted, machine, flags)
    if machine.lower() in ARM_MACHINES:
        name = next(name for name, needed in ARM_FLAGS.items() if all(flags.get(flag) for flag in needed))
        # of a CPU that LLVM knows by name, vectors of another length stay out
        features = ",".join(("+neon", *(f"+{flag}" for flag in ARM_FLAGS[name]), "-sve"))
        return Target(name, triple, cpu, features, 7)
    if machine.lower() in ("x86_64", "amd64"):
        for name, needed in X86_FLAGS.items():
            if all(flags.get(flag) for flag in needed):
                accumulators = 24 if "avx512f" in needed else 6
                # Zen fetches as fast past its second level as into it; a Xeon at half the speed
                zen = cpu.startswith("znver")
                beside = zen and name == "avx512-vnni"
                features = _features(needed) + (",+prfchw" if writes else "")
                return Target(name, triple, "x86-64-v3", features, accumulators, zen, beside)
    raise UnsupportedCPU(f"the CPU ({machine}) has neither AVX2 with FMA and F16C nor NEON")


def _flags_of(wanted: str, machine: str, flags: Mapping[str, bool]) -> Mapping[str, bool]:
    """The flags that lead to this target."""
    sets = ARM_FLAGS if machine.lower() in ARM_MACHINES else X86_FLAGS
    has = [name for name, needed in sets.items() if all(flags.get(flag) for flag in needed)]
    if wanted not in has:
        raise UnknownTarget(f"STEMMA_TARGET={wanted} is no target of this CPU, which has {', '.join(has) or 'none'}")
    return dict.fromkeys(sets[wanted], True)


def _features(needed: tuple[str, ...]) -> str:
    return ",".join(f"+{flag}" for flag in needed)


def _matrix_unit_granted() -> bool:
    """Ask Linux for the use of the matrix unit (arch_prctl, ARCH_REQ_XCOMP_PERM); other systems do not grant it."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST, TILE_DATA) == 0)


def host_flags() -> dict[str, bool]:
    """What this machine has, by LLVM's names."""
    if platform.machine().lower() in ARM_MACHINES:
        return arm_flags()
    flags = x86_flags() if _is_known_by_linux() else dict(llvm().get_host_cpu_features())
    flags["amx-tile"] = flags.get("amx-tile", False) and _matrix_unit_granted()
    return flags


def _is_known_by_linux() -> bool:
    """Whether this is an x86 machine of which Linux says what it can do: then LLVM's library is not needed for that."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and bool(x86_flags())


def host_target() -> Target:
    """The target of this machine, or the one that STEMMA_TARGET names. Raises UnsupportedCPU, UnknownTarget."""
    if _is_known_by_linux():
        cpu, triple = x86_cpu(), "x86_64-unknown-linux-gnu"
    else:
        cpu, triple = llvm().get_host_cpu_name(), llvm().get_default_triple()
    return choose(platform.machine(), host_flags(), cpu, triple, os.environ.get("STEMMA_TARGET"))
