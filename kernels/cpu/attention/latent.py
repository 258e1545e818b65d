"""Latent attention (DeepSeek V2): one key a token for all heads, whose first numbers are its values too. Here latents
are normed, rotated and written, and the rotated parts of queries put behind what their matrices made."""

from __future__ import annotations

from llvmlite import ir

from stemma.kernels.cpu.attention.kv import write_key
from stemma.kernels.cpu.attention.tiles import Shape
from stemma.kernels.cpu.machine.dialect import I32, I64, Code
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.rows.activations import rotate
from stemma.kernels.cpu.rows.norms import copy_normed

LATENT = ("latent", "norm", "cos", "sin", "keys", "block_stride", "positions", "slots")
TAILS = ("q", "head_floats", "out", "cos", "sin", "positions")
"""head_floats: of a head in q."""


def add_latent_write(module: ir.Module, shape: Shape) -> None:
    """latent_write(control, latent, norm, cos, sin, keys, block_stride, positions, slots, rows)"""
    kernel = Code(module, "latent_row", 3)
    address, row, scratch = kernel.arguments
    job = read_words(kernel, address, LATENT)
    source, width, turned = (
        job["latent"] + row * (4 * shape.head_dim),
        shape.value_width,
        shape.head_dim - shape.value_width,
    )
    key = scratch + 64 * shape.head_dim
    copy_normed(kernel, source, key, job["norm"], kernel.constant(I64, width), 1)
    position = kernel.load(I32, job["positions"] + row * 4).to(I64)
    cos, sin = (job[name] + position * (2 * turned) for name in ("cos", "sin"))
    rotate(kernel, source + 4 * width, key + 4 * width, cos, sin, turned)
    slot = kernel.load(I32, job["slots"] + row * 4).to(I64)
    region = job["keys"] + slot.unsigned_divide(shape.block_size) * job["block_stride"]
    with kernel.when(slot > -1):
        write_key(kernel, shape, key, region, slot.unsigned_modulo(shape.block_size), scratch)
    kernel.finish()
    _add_operation(module, "latent_write", LATENT, kernel.function)


def add_turn_tails(module: ir.Module, heads: int, latent: int, turned: int) -> None:
    """turn_tails(control, q, head_floats, out, cos, sin, positions, rows): the last `turned` numbers of each head of q,
    rotated, to those of out (rows, heads, latent + turned)."""
    kernel = Code(module, "tails_of_row", 3)
    address, row, _ = kernel.arguments
    job = read_words(kernel, address, TAILS)
    position = kernel.load(I32, job["positions"] + row * 4).to(I64)
    cos, sin = (job[name] + position * (2 * turned) for name in ("cos", "sin"))
    with kernel.loop(row * heads, (row + 1) * heads) as head:
        source = job["q"] + ((head + 1) * job["head_floats"] - turned) * 4
        rotate(kernel, source, job["out"] + (head * (latent + turned) + latent) * 4, cos, sin, turned)
    kernel.finish()
    _add_operation(module, "turn_tails", TAILS, kernel.function)


def _add_operation(module: ir.Module, name: str, words: tuple[str, ...], kernel: ir.Function) -> None:
    """name(control, *words, rows): the kernel for every row."""
    parallel = module.globals.get("parallel") or add_parallel(module)
    code = Code(module, name, len(words) + 2)
    control, *given, rows = code.arguments
    set_words(code, control + 8 * ARGUMENTS, words, dict(zip(words, given, strict=True)))
    code.call(parallel, control, code.address_of(kernel), rows)
    code.finish()
