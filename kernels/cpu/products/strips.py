"""A strip of packed weights inside a product: how it is read, and what becomes of its sums.

`linear.py` draws how strips lie. Here are the parts that vectors and the matrix unit share.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import DOUBLE, FLOAT, FLOATS16, I16, I32, INTS16, Code, Value, vector
from stemma.kernels.cpu.machine.target import VECTOR_BYTES, Target
from stemma.kernels.cpu.products.mapped import (
    TURN_FROM,
    Rows,
    codes_of_rows,
    rows_asked_for,
    rows_of,
    scales_of_rows,
)
from stemma.kernels.cpu.products.tiles import MAPPED, TILES, Tile, tile_of
from stemma.kernels.cpu.rows.activations import pairs_of
from stemma.kernels.cpu.rows.gates import PLAIN, SILU, activate, activate_gates, silu

STRIP = 16
WORDS, DOUBLES16 = vector(I16, 32), vector(DOUBLE, 16)
SEGMENT = ("prepare", "multiply", "quantized", "weights", "scales", "units", "bias", "outputs", "first_output",
           "stride", "table", "strip_bytes", "strip_facts", "start", "jump", "squares")  # fmt: skip
"""What a packed matrix tells its kernel: addresses, then sizes; bytes of a strip, and of its scales; at last where the
first strip begins, how far from it the one in the middle is, and what `many.py` keeps of each output."""
UNKNOWN = float("inf")
"""What is kept of an output before it is known."""
AHEAD = 2048
"""Bytes of weights that are asked for before they are read: a strip comes from far away, line by line, and is read
faster than the machine's own prefetcher fetches it."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One strip of one matrix, in the generated program. pairs: of a quantised row, see `activations.py`. ahead:
    of what stays in a file (`mapped.py`), the strip that is asked for meanwhile."""

    weights: Value
    scales: Value
    units: Value
    blocks: Value
    pairs: Value
    ahead: Value | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What one piece of a job computes: strips (first, last) of a segment for rows (first, last).

    results: where in the scratch sums wait to be finished. If the first half of the outputs gates the second half,
    strips are counted so that a strip of gates is followed by what it gates.
    """

    kind: str
    target: Target
    job: dict[str, Value]
    segment: dict[str, Value]
    strips: tuple[Value, Value]
    rows: tuple[Value, Value]
    results: Value

    def place(self, code: Code, count: Value) -> Value:
        """The strip that is counted as this one."""
        gate = self.job["gate"]
        return code.select(gate.equals(0), count, (count >> 1) + (count & 1) * gate)

    def strip(self, code: Code, count: Value) -> Strip:
        index, gate = self.place(code, count), self.job["gate"]
        blocks = (self.job["features"] + 31) // 32
        pairs, units = pairs_of(self.job["features"]), self.segment["units"] + index * 64
        if self.kind == MAPPED:
            at = self.segment["weights"] + index * 8
            alone = ((self.rows[1] - self.rows[0]) < TURN_FROM) | gate.differs(0)
            ahead = code.select(alone, code.load_int(at, 1), code.load_int(at, 2))
            return Strip(code.load_int(at), self.segment["scales"] + index * 64, units, blocks, pairs, ahead)
        if self.kind in TILES:
            tile, scales = tile_of(self.kind).weight_bytes, tile_of(self.kind).fact_bytes
        else:
            tile, scales = {"f32": (2048, 0), "fp8": (512, 64)}.get(self.kind, (1024, 0))
        return Strip(
            self.segment["weights"] + index * blocks * tile, self.segment["scales"] + index * blocks * scales,
            units, blocks, pairs,
        )  # fmt: skip


def scaled(code: Code, total: Value, scale_at: Value, units: Value) -> Value:
    return total.to(FLOATS16) * code.broadcast(FLOAT, scale_at, 16) * units


def finish(code: Code, part: Part, row: Value, count: Value, sums: Value, waiting: Value) -> None:
    """Bias, activation, scale, then the residual and the store; or gates wait for what they gate, which follows them.

    waiting: 64 bytes for these sums, behind those of the strip counted before.
    """
    job, gate = part.job, part.job["gate"]
    strip = part.place(code, count)
    sums = sums + code.load(FLOATS16, part.segment["bias"] + strip * 64)
    with code.either(gate.equals(0)) as (plain, gated):
        with plain:
            column = part.segment["first_output"] + strip * STRIP
            place = job["out"] + (row * job["out_features"] + column) * 4
            result = code.variable(sums)
            with code.when(job["activation"].differs(PLAIN)):
                code.store(sums, waiting)
                code.call(activate(code.module), job["activation"], waiting, job["scale"])
                result.value = code.load(FLOATS16, waiting)
            scaled_ = result.value * code.splat(job["scale"].to(I32).bits(FLOAT), 16)
            _put(code, place, scaled_, (part.segment["outputs"] - strip * STRIP, job["add"]), waiting)
        with gated, code.either((count & 1).equals(0)) as (gates, values):
            with gates:
                code.store(sums, waiting)
            with values:
                place = job["out"] + (row * job["out_features"] + (strip - gate) * STRIP) * 4
                _put_gated(code, job["activation"], waiting, sums, place)


def _put_gated(code: Code, activation: Value, waiting: Value, sums: Value, place: Value) -> None:
    """Store what the gates that wait leave of the sums."""
    with code.either(activation.equals(SILU)) as (usual, others):
        with usual:
            code.store(silu(code, code.load(FLOATS16, waiting - 64)) * sums, place)
        with others:
            code.store(sums, waiting)
            code.call(activate_gates(code.module), activation, waiting - 64, waiting, place)


def _put(code: Code, place: Value, sums: Value, how: tuple[Value, Value], waiting: Value) -> None:
    """Store, or add to what is there; the last strip may stand over the matrix' edge. how: outputs from here on, and
    whether to add."""
    outputs, add = how
    with code.either(outputs >= STRIP) as (inside, over):
        with inside:
            result = code.variable(sums)
            with code.when(add.differs(0)):
                result.value = code.load(FLOATS16, place) + sums
            code.store(result.value, place)
        with over:
            code.store(sums, waiting)
            code.call(_put_some(code.module), waiting, place, outputs, add)


def _put_some(module: ir.Module) -> ir.Function:
    """put_some(sums, place, outputs, add). A function, so that what is rare leaves registers to what is not."""
    found = module.globals.get("put_some")
    if found is not None:
        return found
    code = Code(module, "put_some", 4)
    code.function.attributes.add("noinline")
    sums, place, outputs, add = code.arguments
    with code.loop(0, outputs) as lane:
        single = code.variable(code.load(FLOAT, sums + lane * 4))
        with code.when(add.differs(0)):
            single.value = code.load(FLOAT, place + lane * 4) + single.value
        code.store(single.value, place + lane * 4)
    return code.finish()


def asked_for(code: Code, tile: Tile, strip: Strip, block: Value, nearness: int = 3) -> Value | Rows:
    """Where a block's weights are; those that follow some way behind are asked for."""
    if strip.ahead is not None:
        return rows_asked_for(code, strip.ahead, strip.weights, strip.blocks, block)
    place = strip.weights + block * tile.weight_bytes
    for line in range(0, tile.weight_bytes, 64):
        code.prefetch(place + (AHEAD + line), nearness)
    facts = strip.scales + block * tile.fact_bytes
    code.prefetch(facts + AHEAD * tile.fact_bytes // tile.weight_bytes, nearness)
    return place


def facts_of(code: Code, tile: Tile, strip: Strip, block: Value) -> tuple[list[Value], list[Value]]:
    """Scales and minima of 16 outputs for each group of the block, integers of 16 bits."""
    if strip.ahead is not None:
        rows = rows_of(strip.weights, strip.blocks, block)
        scales = scales_of_rows(code, [rows.first + rows.step * row for row in range(STRIP)], strip.scales)
        return [scales.to(INTS16).to(vector(I16, STRIP))], []
    place = strip.scales + block * tile.fact_bytes
    words = [code.load(vector(I16, 16), place + 32 * i) for i in range(tile.fact_bytes // 32)]
    return words[: tile.num_groups], words[tile.num_groups :]


def bytes_of(code: Code, tile: Tile, address: Value | Rows) -> list[Value]:
    """The codes of 32 inputs, 8 vectors of bytes."""
    if isinstance(address, Rows):
        return codes_of_rows(code, address)
    if tile.form.bits == 8:
        return [code.load(VECTOR_BYTES, address + 64 * j) for j in range(8)]
    planes = [code.load(VECTOR_BYTES, address + 64 * i) for i in range(tile.weight_bytes // 64)]
    codes: list[Value] = []
    for j in range(8):
        parts = [_cut(planes[cut.vector], cut.from_bit, cut.to_bit, cut.num_bits) for cut in tile.cuts(j)]
        joined = parts[0]
        for part in parts[1:]:
            joined = joined | part
        codes.append(joined)
    return codes


def _cut(plane: Value, from_bit: int, to_bit: int, num_bits: int) -> Value:
    """Some bits of every byte, moved. There is no shift of bytes: words are shifted, and foreign bits masked."""
    mask = ((1 << num_bits) - 1) << to_bit
    if from_bit == to_bit:
        return plane & mask
    words = plane.bits(WORDS)
    moved = words.unsigned_shift_right(from_bit - to_bit) if from_bit > to_bit else words << (to_bit - from_bit)
    return moved.bits(VECTOR_BYTES) & mask


def looked_up(code: Code, part: Part, codes: list[Value]) -> list[Value]:
    """What codes stand for in the segment's table, as the target multiplies bytes."""
    table = code.load(VECTOR_BYTES, part.segment["table"])
    return [part.target.look_up(code, table, j) for j in codes]


def weight_digits(code: Code, part: Part, strip: Strip, block: Value) -> list[list[Value]]:
    """The integers that a block's weights are, cut into bytes for the matrix unit, the lowest first.

    Even and odd inputs are worked on apart, as words of 16 bits, and joined again.
    """
    tile, place = tile_of(part.kind), asked_for(code, tile_of(part.kind), strip, block)
    scales, minima = ([_twice(fact) for fact in facts] for facts in facts_of(code, tile, strip, block))
    codes = bytes_of(code, tile, place) if minima else _signed(code, part, place)
    digits: list[list[Value]] = [[] for _ in range(tile.num_digits)]
    for j, vector_of_codes in enumerate(codes):
        group = j * tile.num_groups // 8
        if minima:
            words = (word * scales[group] + minima[group] for word in _unsigned_words(vector_of_codes))
            found = _bytes_of_words(code, *words)
        else:
            found = _three_digits(code, vector_of_codes.bits(WORDS), scales[group])
        for vectors, digit in zip(digits, found, strict=True):
            vectors.append(digit)
    return digits


def _three_digits(code: Code, codes: Value, scale: Value) -> list[Value]:
    """Signed bytes times 16 bits. A byte in the upper half of a word leaves the upper two digits in the upper half of
    the product, and the lowest at its place in the lower half."""
    even, odd = codes << 8, codes & -256
    lowest = ((codes * scale) & 255) | (odd * scale)
    uppers = [code.intrinsic("llvm.x86.avx512.pmulh.w.512", WORDS, word, scale) for word in (even, odd)]
    return [lowest.bits(VECTOR_BYTES), *_bytes_of_words(code, *uppers)]


def _signed(code: Code, part: Part, address: Value | Rows) -> list[Value]:
    """What the codes of 32 inputs stand for, as signed bytes. Those that are stored with 128 added lose it.

    A table stands in every 16 bytes of its vector, so the machine's table of 64 needs no index without foreign bits.
    """
    tile = tile_of(part.kind)
    if not tile.form.has_table:
        codes = bytes_of(code, tile, address)
        return [j ^ -128 for j in codes] if tile.form.bits == 8 else [j - tile.form.offset for j in codes]
    assert isinstance(address, Value)
    table = code.load(VECTOR_BYTES, part.segment["table"]) ^ -128
    planes = [code.load(VECTOR_BYTES, address + 64 * i) for i in range(tile.weight_bytes // 64)]
    upper = [plane.bits(WORDS).unsigned_shift_right(4).bits(VECTOR_BYTES) for plane in planes]
    return [code.intrinsic("llvm.x86.avx512.permvar.qi.512", VECTOR_BYTES, table, j) for j in (*planes, *upper)]


def _unsigned_words(codes: Value) -> tuple[Value, Value]:
    words = codes.bits(WORDS)
    return words & 255, words.unsigned_shift_right(8)


def _twice(fact: Value) -> Value:
    """16 words -> 32, each beside itself."""
    wide = fact.widen_unsigned(INTS16)
    return (wide | (wide << 16)).bits(WORDS)


def _bytes_of_words(code: Code, even: Value, odd: Value) -> list[Value]:
    """The low and the high bytes of words, each a vector of bytes in the order of the inputs."""
    low, high = even.bits(VECTOR_BYTES), odd.bits(VECTOR_BYTES)
    orders = [[at + half + 64 * which for at in range(0, 64, 2) for which in (0, 1)] for half in (0, 1)]
    return [code.shuffle(low, high, order) for order in orders]
