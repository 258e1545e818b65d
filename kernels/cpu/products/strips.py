"""A strip of packed weights inside a product: how it is read, and what becomes of its sums.

`linear.py` draws how strips lie. Here are the parts that vectors and the matrix unit share.
"""

from __future__ import annotations

from dataclasses import dataclass

from stemma.kernels.cpu.machine.dialect import DOUBLE, FLOAT, FLOATS16, I16, I32, INTS16, Code, Value, vector
from stemma.kernels.cpu.machine.target import VECTOR_BYTES, Target
from stemma.kernels.cpu.rows.activations import pairs_of, silu

STRIP = 16
WORDS, DOUBLES16 = vector(I16, 32), vector(DOUBLE, 16)
SEGMENT = ("prepare", "multiply", "quantized", "weights", "scales", "units", "bias", "outputs", "first_output",
           "stride")  # fmt: skip
"""What a packed matrix tells its kernel: addresses, then sizes."""
AHEAD = 2048
"""Bytes of weights that are asked for before they are read: a strip comes from far away, line by line, and is read
faster than the machine's own prefetcher fetches it."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One strip of one matrix, in the generated program. pairs: of a quantised row, see `activations.py`."""

    weights: Value
    scales: Value
    units: Value
    blocks: Value
    pairs: Value


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
        index = self.place(code, count)
        blocks = (self.job["features"] + 31) // 32
        tile, scales = {"q4": (256, 64), "q8": (512, 32), "f32": (2048, 0)}.get(self.kind, (1024, 0))
        return Strip(
            self.segment["weights"] + index * blocks * tile, self.segment["scales"] + index * blocks * scales,
            self.segment["units"] + index * 64, blocks, pairs_of(self.job["features"]),
        )  # fmt: skip


def scaled(code: Code, total: Value, scale_at: Value, units: Value) -> Value:
    return total.to(FLOATS16) * code.broadcast(FLOAT, scale_at, 16) * units


def finish(code: Code, part: Part, row: Value, count: Value, sums: Value, waiting: Value) -> None:
    """Bias, then the residual and the store; or gates wait for what they gate, which follows them."""
    job, gate = part.job, part.job["gate"]
    strip = part.place(code, count)
    sums = sums + code.load(FLOATS16, part.segment["bias"] + strip * 64)
    with code.either(gate.equals(0)) as (plain, gated):
        with plain:
            column = part.segment["first_output"] + strip * STRIP
            place = job["out"] + (row * job["out_features"] + column) * 4
            _put(code, place, sums, part.segment["outputs"] - strip * STRIP, job["add"].differs(0))
        with gated, code.either((count & 1).equals(0)) as (gates, values):
            with gates:
                code.store(sums, waiting)
            with values:
                place = job["out"] + (row * job["out_features"] + (strip - gate) * STRIP) * 4
                code.store(silu(code, code.load(FLOATS16, waiting - 64)) * sums, place)


def _put(code: Code, place: Value, sums: Value, outputs: Value, add: Value) -> None:
    """Store, or add to what is there; the last strip may stand over the matrix' edge."""
    with code.either(outputs >= STRIP) as (inside, over):
        with inside:
            result = code.variable(sums)
            with code.when(add):
                result.value = code.load(FLOATS16, place) + sums
            code.store(result.value, place)
        with over:
            spare = code.variable(sums)
            for lane in range(STRIP - 1):
                with code.when(outputs > lane):
                    single = code.variable(code.lane(spare.value, lane))
                    with code.when(add):
                        single.value = code.load(FLOAT, place + lane * 4) + single.value
                    code.store(single.value, place + lane * 4)


def asked_for(code: Code, kind: str, strip: Strip, block: Value) -> Value:
    """The address of a block's weights; those that follow some way behind are asked for."""
    tile = 256 if kind == "q4" else 512
    place = strip.weights + block * tile
    for line in range(0, tile, 64):
        code.prefetch(place + (AHEAD + line))
    code.prefetch(strip.scales + (block * (64 if kind == "q4" else 32) + AHEAD // (4 if kind == "q4" else 16)))
    return place


def facts_of(code: Code, kind: str, strip: Strip, block: Value) -> tuple[Value, Value | None]:
    """Scales and minima of 16 outputs, integers of 16 bits."""
    place = strip.scales + block * (64 if kind == "q4" else 32)
    words = vector(I16, 16)
    return code.load(words, place), code.load(words, place + 32) if kind == "q4" else None


def bytes_of(code: Code, kind: str, address: Value) -> list[Value]:
    if kind == "q8":
        return [code.load(VECTOR_BYTES, address + 64 * j) for j in range(8)]
    packed = [code.load(VECTOR_BYTES, address + 64 * j) for j in range(4)]
    return [p & 15 for p in packed] + [p.bits(WORDS).unsigned_shift_right(4).bits(VECTOR_BYTES) & 15 for p in packed]


def weight_digits(code: Code, kind: str, strip: Strip, block: Value) -> list[list[Value]]:
    """The integers that a block's weights are, cut into bytes for the matrix unit, the lowest first.

    Even and odd inputs are worked on apart, as words of 16 bits, and joined again.
    """
    place = asked_for(code, kind, strip, block)
    scale, minimum = (None if fact is None else _twice(fact) for fact in facts_of(code, kind, strip, block))
    assert scale is not None
    digits: list[list[Value]] = []
    if minimum is not None:
        packed = [code.load(VECTOR_BYTES, place + 64 * j).bits(WORDS) for j in range(4)]
        low = [(p & 15, p.unsigned_shift_right(8) & 15) for p in packed]
        high = [(p.unsigned_shift_right(4) & 15, p.unsigned_shift_right(12)) for p in packed]
        words = [[nibble * scale + minimum for nibble in both] for both in low + high]
        return [[_low_bytes(*both) for both in words], [_high_bytes(*both) for both in words]]
    digits = [[], [], []]
    for j in range(8):
        stored = (code.load(VECTOR_BYTES, place + 64 * j) ^ -128).bits(WORDS)
        both = (stored << 8) >> 8, stored >> 8
        low_words, high_words = [b * scale for b in both], [_high_product(b, scale) for b in both]
        digits[0].append(_low_bytes(*low_words))
        digits[1].append(_high_bytes(*low_words))
        digits[2].append(_low_bytes(*high_words))
    return digits


def _twice(fact: Value) -> Value:
    """16 words -> 32, each beside itself."""
    wide = fact.widen_unsigned(INTS16)
    return (wide | (wide << 16)).bits(WORDS)


def _low_bytes(even: Value, odd: Value) -> Value:
    return ((even & 255) | (odd << 8)).bits(VECTOR_BYTES)


def _high_bytes(even: Value, odd: Value) -> Value:
    return (even.unsigned_shift_right(8) | (odd & -256)).bits(VECTOR_BYTES)


def _high_product(a: Value, b: Value) -> Value:
    """The upper 16 of the product's 32 bits."""
    wide = vector(I32, 32)
    return ((a.to(wide) * b.to(wide)) >> 16).to(WORDS)
