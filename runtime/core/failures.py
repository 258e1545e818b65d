"""What went wrong in one sequence: the typed error that its caller gets, and its blocks given back all the same.

Whatever is raised where something is done for one sequence is that sequence's own. What is raised anywhere else, or
leaves the cache broken, belongs to all, and nothing here holds it up.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from stemma.fsm import FormError
from stemma.radix import Lease, NextUse, PinError
from stemma.runtime.errors import GrammarFailed, OutOfDeviceMemory, PinRefused, RequestFailed, StemmaError


def as_stemma_error(error: BaseException) -> StemmaError:
    """The error for the caller, with `error` as its cause. Raises it again where it is a wish to end the process.

    Not only `Exception`s: a panic inside a compiled library, such as a tokenizer's, is none.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error
    if isinstance(error, StemmaError):
        return error
    made: StemmaError
    if is_out_of_memory(error):
        let_go(error)
        made = OutOfDeviceMemory(
            f"the request needs more memory than the device has free beside the KV pool ({first_line(error)}): ask for "
            "fewer prompt_logprobs, or start the engine with less memory_share, max_chunk or max_batch_tokens"
        )
    elif isinstance(error, FormError):
        made = GrammarFailed(str(error))
    else:
        made = RequestFailed(f"the request failed inside the engine: {describe_error(error)}")
    made.__cause__ = error
    return made


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's memory was asked for in vain: as torch, CUDA and cuBLAS say it."""
    text = describe_error(error).lower()
    return isinstance(error, RuntimeError) and any(
        said in text for said in ("out of memory", "cudaerrormemoryallocation", "status_alloc_failed")
    )


def has_run_out(error: BaseException | None) -> bool:
    """The same of what an error was raised behind: a capture that was broken off says no more than that."""
    while error is not None:
        if is_out_of_memory(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def let_go(error: BaseException) -> None:
    """Drop what the calls that failed held: an error keeps their variables, which can be most of a device's memory."""
    traceback.clear_frames(error.__traceback__)


def of_all(error: BaseException) -> str:
    """What to do about an error that ended an engine, if that is known."""
    text = describe_error(error).lower()
    if is_out_of_memory(error):
        return (
            ": not even one token can be computed beside the KV pool; make a new engine with less memory_share, or end "
            "what else uses the device"
        )
    if isinstance(error, RuntimeError) and any(said in text for said in ("cuda", "hip error", "nccl", "triton error")):
        return (
            ": after such an error nothing more can be computed in this process: start it anew. If it comes again, see "
            "whether it does with graphs=False (--no-graphs), and whether the driver reports errors of the card "
            "(dmesg, nvidia-smi -q)"
        )
    return ""


def first_line(error: BaseException) -> str:
    """What an error says, up to the advice for whoever writes kernels."""
    return describe_error(error).splitlines()[0].split(". ")[0]


def describe_error(error: BaseException) -> str:
    """What an error is and says; some cannot even say that."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:
        return name


def dead_end(num_tokens: int) -> GrammarFailed:
    """What a sequence ends with whose grammar wants, behind so many tokens of output, what no token spells."""
    place = f"after {num_tokens} tokens of output" if num_tokens else "at the start of the output"
    return GrammarFailed(f"no token of this model's vocabulary can follow in the grammar {place}, and it may not end")


@contextmanager
def typed_pin_error() -> Iterator[None]:
    """What the cache refuses a pin is PinRefused for its caller: nothing is broken."""
    try:
        yield
    except PinError as error:
        raise PinRefused(str(error)) from error


def release_lease(lease: Lease, next_use: NextUse = NextUse.UNKNOWN) -> None:
    """Release a lease, whatever happens on the way: twice is once. Blocks that do not come back then concern all."""
    try:
        lease.release(next_use)
    except Exception:
        lease.release(next_use)
