"""Eight-bit KV as matrix instructions take it: float16, two neighbouring numbers of a token at a time.

A tile of keys or values is read as 16-bit integers, of which each holds two numbers. So it is laid out for matrix
instructions as 16-bit KV is, and is made two operands in registers, of the even and of the odd dimensions:

    integer   |   odd   |  even  |     int8: the byte, its sign bit turned, ends a float16 between 1,024 and 1,280
    float16   | 0110 01 | byte   |     e4m3: its bits are those of a float16 that is 256 times as small

Sums over dimensions do not mind the order, and outputs are put together behind the loop. float16 holds every number of
both types exactly. Queries are rounded to it where activations are bfloat16: exactly, but for what is below 2^-14,
which keeps an error of 2^-25, and above 65,504, which becomes that. Probabilities keep 11 bits, where bfloat16 has 8.
"""

from __future__ import annotations

import triton
import triton.language as tl

INT8 = """{
.reg .b32 low, high, middle;
mov.b32 middle, 0x64806480;
lop3.b32 low, $2, 0x00ff00ff, middle, 0x6a;
shr.u32 high, $2, 8;
lop3.b32 high, high, 0x00ff00ff, middle, 0x6a;
sub.f16x2 $0, low, middle;
sub.f16x2 $1, high, middle;
}"""
"""(pairs & 0x00ff) ^ 0x6480 is 1,024 + 128 + the number; 0x6480 is 1,152. Of two pairs at once."""

E4M3 = """{
.reg .b32 bytes;
.reg .b16 low, high;
prmt.b32 bytes, $2, 0, 0x3120;
mov.b32 {low, high}, bytes;
cvt.rn.f16x2.e4m3x2 $0, low;
cvt.rn.f16x2.e4m3x2 $1, high;
}"""
"""Both even numbers of two pairs, then both odd ones; from compute capability 8.9 on, as e4m3 is."""

INT8_SOURCE, E4M3_SOURCE = tl.constexpr(INT8), tl.constexpr(E4M3)


@triton.jit
def even_and_odd(pairs, FP8_SCALE: tl.constexpr, PTX: tl.constexpr, DOT: tl.constexpr):
    """The even and the odd numbers. FP8_SCALE: what the bits of an 8-bit float stand for, over a float16's; 0 of int8.
    PTX: whether there are NVIDIA's instructions."""
    if PTX:
        even, odd = tl.inline_asm_elementwise(
            E4M3_SOURCE if FP8_SCALE else INT8_SOURCE, "=r,=r,r", [pairs], (tl.float16, tl.float16), True, 2
        )
    elif FP8_SCALE:
        low, high = ((pairs << 7) & 0x3F80) | ((pairs << 8) & -32768), ((pairs >> 1) & 0x3F80) | (pairs & -32768)
        even = low.to(tl.int16).to(tl.float16, bitcast=True) * FP8_SCALE
        odd = high.to(tl.int16).to(tl.float16, bitcast=True) * FP8_SCALE
    else:
        low, high = (pairs & 0xFF) ^ 0x6480, ((pairs >> 8) & 0xFF) ^ 0x6480
        even = low.to(tl.int16).to(tl.float16, bitcast=True) - 1152.0
        odd = high.to(tl.int16).to(tl.float16, bitcast=True) - 1152.0
    return even.to(DOT), odd.to(DOT)


@triton.jit
def load_queries(to_query, exists, DOT: tl.constexpr):
    """Queries as the keys are multiplied with them, within what float16 holds."""
    query = tl.load(to_query, mask=exists, other=0.0).to(tl.float32)
    return tl.minimum(tl.maximum(query, -65504.0), 65504.0).to(DOT)
