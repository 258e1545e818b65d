"""Products of matrices of one shape, each with rows of its own, as two jobs: rows are prepared, then multiplied.
A group is one matrix with some of its rows; threads take strips of all groups. Only matrices that have rows are read.
"""

from __future__ import annotations

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import I64, Code, Value
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words, word_of
from stemma.kernels.cpu.products import amx
from stemma.kernels.cpu.products.linear import PRODUCT, layout_of
from stemma.kernels.cpu.products.strips import SEGMENT, STRIP
from stemma.kernels.cpu.rows.activations import GROUP as ROWS_TOGETHER

GROUP = ("segment", "first", "last", "layout", "prepared", "x", "out")
"""A matrix' words, its rows, how they lie when they are prepared; where they are prepared, read and written."""
JOB = ("groups", "x_stride", "row_ids", "norm", "features", "stride", "out_features", "gate", "activation", "pieces",
       "strips_per_piece")  # fmt: skip
"""What all groups share; see PRODUCT. pieces: of each group."""
MOST_ROWS = 256
"""Of a group; more are several groups."""
WORDS_AT = amx.SCRATCH_BYTES
SCRATCH_BYTES = WORDS_AT + 1024
"""Behind what products need, a thread's scratch holds the words of the product that it is computing."""


def add_groups(module: ir.Module) -> None:
    """prepare_group and multiply_group: (arguments, piece, scratch)."""
    _add_prepare(module)
    _add_multiply(module)


def _add_prepare(module: ir.Module) -> None:
    code = Code(module, "prepare_group", 3)
    address, piece, scratch = code.arguments
    job = read_words(code, address, JOB)
    group = read_words(code, job["groups"] + piece * (8 * len(GROUP)), GROUP)
    words = {name: job[name] for name in ("x_stride", "row_ids", "norm", "features")}
    words |= {name: group[name] for name in ("first", "last", "prepared", "x")}
    rows = {"rows_per_piece": group["last"] - group["first"], "group": group["layout"]}
    set_words(code, scratch + WORDS_AT, PRODUCT, words | rows | {"prepared_stride": job["stride"]})
    kernel = code.load_int(group["segment"], SEGMENT.index("prepare"))
    code.call_address(kernel, scratch + WORDS_AT, code.constant(I64, 0), scratch)
    code.finish()


def _add_multiply(module: ir.Module) -> None:
    code = Code(module, "multiply_group", 3)
    address, piece, scratch = code.arguments
    job = read_words(code, address, JOB)
    group = read_words(code, job["groups"] + piece // job["pieces"] * (8 * len(GROUP)), GROUP)
    words = {name: job[name] for name in ("features", "out_features", "gate", "activation", "strips_per_piece")}
    words |= dict.fromkeys(("share", "shares"), code.constant(I64, 0))
    words |= {name: group[name] for name in ("segment", "first", "last", "prepared", "out")}
    words |= {"prepared_stride": job["stride"], "group": group["layout"], "add": code.constant(I64, 0)}
    words["scale"] = code.constant(I64, word_of(1.0))
    set_words(code, scratch + WORDS_AT, PRODUCT, words)
    kernel = code.load_int(group["segment"], SEGMENT.index("multiply"))
    code.call_address(kernel, scratch + WORDS_AT, piece % job["pieces"], scratch)
    code.finish()


def whole_groups(rows: Value) -> Value:
    """Rows that so many take when they are prepared, in whatever layout."""
    return (rows + (ROWS_TOGETHER - 1)) // ROWS_TOGETHER * ROWS_TOGETHER


def run_groups(
    code: Code, control: Value, job: dict[str, Value], counts: tuple[Value, Value], outputs: Value, threads: Value
) -> None:
    """Write the jobs. counts: of groups, and of those whose rows must be prepared. outputs: of a matrix."""
    parallel = code.module.globals.get("parallel") or add_parallel(code.module)
    num_groups, num_prepared = counts
    strips = (outputs + (STRIP - 1)) // STRIP
    wanted = (strips * num_groups + threads * 16 - 1) // (threads * 16) * 2
    per_piece = code.minimum(code.maximum(wanted, 2), (strips + 1) // 2 * 2)
    pieces = (strips + per_piece - 1) // per_piece
    set_words(code, control + 8 * ARGUMENTS, JOB, job | {"pieces": pieces, "strips_per_piece": per_piece})
    globals_ = code.module.globals
    code.call(parallel, control, code.address_of(globals_["prepare_group"]), num_prepared)
    code.call(parallel, control, code.address_of(globals_["multiply_group"]), num_groups * pieces)


HEADS = ("segments", "number", "features", "outputs", "stride")
"""A head_linear: addresses of each head's matrix, then sizes; stride: of a prepared row."""


def add_head_products(module: ir.Module, target: Target) -> None:
    """head_products(control, heads, x, x_stride, x_step, out, out_floats, out_step, rows, groups, prepared, threads)

    Row by row, each head's inputs lie x_step bytes apart, its outputs out_step bytes; a row of outputs is out_floats.
    groups, prepared: room for both.
    """
    code = Code(module, "head_products", 12)
    control, heads, x, x_stride, x_step, out, out_floats, out_step, rows, groups, prepared, threads = code.arguments
    of = read_words(code, heads, HEADS)
    count, at = code.variable(0), code.variable(prepared)
    with code.loop(0, of["number"]) as head, code.loop(0, rows, MOST_ROWS) as first:
        last = code.minimum(first + MOST_ROWS, rows)
        segment = code.load_int(of["segments"] + head * 8)
        quantized = code.load_int(segment, SEGMENT.index("quantized"))
        layout = layout_of(code, target, last - first, of["features"], quantized)
        words = {"segment": segment, "first": first, "last": last, "layout": layout, "prepared": at.value,
                 "x": x + head * x_step, "out": out + head * out_step}  # fmt: skip
        set_words(code, groups + count.value * (8 * len(GROUP)), GROUP, words)
        count.value = count.value + 1
        at.value = at.value + whole_groups(last - first) * of["stride"]
    zero = code.constant(I64, 0)
    job = {"groups": groups, "x_stride": x_stride, "row_ids": zero, "norm": zero, "features": of["features"],
           "stride": of["stride"], "out_features": out_floats, "gate": zero, "activation": zero}  # fmt: skip
    run_groups(code, control, job, (count.value, count.value), of["outputs"], threads)
    code.finish()
