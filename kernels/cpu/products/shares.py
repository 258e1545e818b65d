"""How few rows divide a product's strips among threads, and how threads that wait learn what they read next.

Few rows are bound by reading weights, which is fastest in long stretches that begin before they are needed:

    strips   | first piece of thread 0 | of thread 1 | ... | small pieces, for who has time |
             three quarters of all, known before the product begins

While a row is prepared, or another thread ends a product, who waits fetches the first lines of its next piece.
"""

from __future__ import annotations

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import Code, Value
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.threads import FOLLOWING, SOON, SOON_AT
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.products.strips import SEGMENT, STRIP

CALL = ("x", "norm", "row_ids", "rows", "features", "linear", "out", "add", "gate", "prepared", "threads", "scale",
        "activation")  # fmt: skip
"""Arguments of the operation `linear`, behind the control block."""
FEW, SOME = 4, 128
"""Fewer rows than this read weights as fast as memory gives them; than this are multiplied faster, on vectors, where a
thread need not wait for what it reads."""


def share_of(code: Code, target: Target, strips: Value, threads: Value, rows: Value) -> Value:
    """Strips of each thread's first piece, 0 where rows are many. An even number: gates stay with what they gate."""
    return code.select(rows < _most(target), strips * 3 // (threads * 8) * 2, strips * 0)


def piece_of(code: Code, target: Target, strips: Value, threads: Value, rows: Value) -> Value:
    """Strips of each further piece, of so many that are left."""
    pieces = code.select(rows < _most(target), threads * 16, threads * 8)
    size = (strips + pieces - 1) // pieces * 2
    return code.select(rows >= SOME, 2, size) if _most(target) == SOME else size


def _most(target: Target) -> int:
    return FEW if target.is_arm or target.name == "amx" else SOME


def soon_function(module: ir.Module, target: Target) -> ir.Function:
    """soon(control): tell who waits what the next product's first pieces are, if a recorded step knows it, and ask for
    its norm, which this step has not read before."""
    found = module.globals.get("soon")
    if found is not None:
        return found
    code = Code(module, "soon", 1)
    control = code.arguments[0]
    following = code.load_int(control, FOLLOWING)
    with code.when(following.differs(0)):
        call = read_words(code, following, CALL)
        segment = read_words(code, code.load_int(call["linear"], 3), SEGMENT)
        strips = (segment["outputs"] + (STRIP - 1)) // STRIP
        share = share_of(code, target, strips, call["threads"], call["rows"])
        alone = call["gate"].equals(0)
        share = code.select(alone, share, share >> 1)
        words = {
            "first": segment["start"], "share": share * segment["strip_bytes"],
            "facts": segment["scales"], "fact_share": share * segment["strip_facts"],
            "jump": code.select(alone, 128, segment["jump"]),
            "fact_jump": call["gate"] * segment["strip_facts"], "step": code.select(alone, 256, strips * 0 + 128),
        }  # fmt: skip
        set_words(code, control + 8 * SOON_AT, SOON, words)
        with code.when(call["norm"].differs(0)):
            weights = code.load_int(call["norm"])
            with code.loop(0, call["features"] * 4, 64) as line:
                code.prefetch(weights + line, nearness=2)
    return code.finish()
