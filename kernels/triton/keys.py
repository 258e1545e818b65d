"""Which sizes of steps are recorded as graphs, and the room that all of them share.

A graph's key is how many tokens and rows of logits it computes, and nothing else: rectangles, pieces and block tables
are read on the device. A step goes into the smallest key that holds it.

    1  2  4  8  12  16  24  32  48  64  96  128  192  256        tokens, with as many rows: decode, drafts
                                            128       256  384  512  tokens, with at most 16 rows: prompts behind a hit
                                                           384  512  tokens, with at most 256 rows: beside streams
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stemma.kernels.limits import WORKSPACE_BYTES, StepLimits, Widths, eager_rows, step_bytes
from stemma.kernels.memory import MemoryShape
from stemma.kernels.ops import KVShape
from stemma.kernels.triton.cut import Cutting
from stemma.kernels.triton.plan import attention_sizes, partial_size, row_sizes
from stemma.kernels.triton.states import StateCapacity, state_sizes
from stemma.kernels.triton.uploads import ALIGNMENT


class Key(NamedTuple):
    tokens: int
    rows: int


DECODE_TOKENS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""A product of a few hundred rows takes as long as its weights take to be read, so steps up to there may be padded
generously; above, padding costs what it is, so sizes lie closer."""

PROMPT_KEYS = (Key(128, 16), Key(256, 16), Key(384, 16), Key(512, 16), Key(384, 256), Key(512, 256))
"""Prompts have one row a sequence: the head need not be computed for all of their tokens."""

MOST_KEYS = 20
MOST_PARTIALS = 8192
"""Partial sums of a step: of 512 tokens at contexts of 8,192, or of 256 at twice that. Longer ones are cut less often
in a batch as large, since the pool of KV ends before."""
MOST_TABLE_ENTRIES = 1 << 22
"""Of block tables: 16 MiB. 256 sequences of 262,144 tokens in blocks of 16."""
WORKSPACES = 4
"""Of cuBLAS and cuBLASLt, on the streams of steps and of capture."""
SAMPLED_BYTES = 64 << 10
"""What the kernels that sample a row, or report its log-probabilities, leave for one another."""


def keys_of(limits: StepLimits) -> tuple[Key, ...]:
    """Those that steps of these limits may need, the smallest first."""
    plain = [Key(tokens, tokens) for tokens in DECODE_TOKENS]
    most = next((key.tokens for key in plain if key.tokens >= limits.max_batch_tokens), limits.max_batch_tokens)
    prompts = [key for key in PROMPT_KEYS if key.rows < key.tokens]
    return tuple(sorted(key for key in (*plain, *prompts) if key.tokens <= most))


def key_for(keys: Sequence[Key], num_tokens: int, num_rows: int) -> Key | None:
    """The smallest that holds so many; None if none does."""
    return next((key for key in keys if key.tokens >= num_tokens and key.rows >= num_rows), None)


class Pool(NamedTuple):
    """A pool of blocks, and how its attention is cut. prefix: of its fields in an upload. cutting: None where no layer
    has attention there."""

    prefix: str
    shape: KVShape
    cutting: Cutting | None

    def sizes(self, num_tokens: int, merge: bool) -> dict[str, int]:
        """Of the fields of its plan."""
        attention = {} if self.cutting is None else attention_sizes(num_tokens, merge)
        return {self.prefix + name: size for name, size in (row_sizes(num_tokens) | attention).items()}


class Room(NamedTuple):
    """Of all graphs together. words: of uploads. partials: partial sums. rows: of logits."""

    words: int
    partials: int
    rows: int

    @classmethod
    def of(cls, limits: StepLimits, pools: Sequence[Pool], has_states: bool) -> Room:
        """A function of the most sequences, the longest context and the most tokens of a step:

        partials      most tokens of a graph x pieces of the context, at most MOST_PARTIALS
        tables        of each pool, sequences x blocks of the context, at most MOST_TABLE_ENTRIES
        rectangles    of each pool, twice as many as partial sums and tokens, which no cut exceeds
        """
        keys = keys_of(limits)
        tokens, context = max(limits.max_batch_tokens, keys[-1].tokens), limits.context_length
        partials, words = 0, words_of({"ids": tokens, "rows": tokens})
        for pool in pools:
            words += words_of(pool.sizes(tokens, merge=True))
            if pool.cutting is not None:
                pieces = -(-context // pool.cutting.piece)
                partials = max(partials, min(keys[-1].tokens * pieces, MOST_PARTIALS) if pieces > 1 else 1)
                words += min(limits.max_running * -(-context // pool.shape.block_size), MOST_TABLE_ENTRIES)
        words += len(pools) * 12 * (partials + tokens)
        if has_states:
            words += words_of(state_sizes(StateCapacity(tokens, tokens, tokens)))
        return cls(words, partials, max(key.rows for key in keys))

    def partial_numbers(self, pools: Sequence[Pool]) -> int:
        """Float32 numbers of partial sums: pools use them in turn."""
        used = [(pool.cutting, pool.shape) for pool in pools if pool.cutting is not None]
        return max((partial_size(self.partials, *each) for each in used), default=0)


def words_of(sizes: dict[str, int]) -> int:
    """As `Uploads` places them."""
    return sum(-(-max(size, 1) // ALIGNMENT) * ALIGNMENT for size in sizes.values())


def reserved_bytes(room: Room, pools: Sequence[Pool], widths: Widths, limits: StepLimits, itemsize: int) -> int:
    """What graphs and eager steps need of a device beside weights and pools: uploads, partial sums and logits, which
    are kept; what the largest step needs while it runs, which graphs share; workspaces.

    itemsize: bytes of an activation.
    """
    used = [(pool.cutting.group + 2, pool.shape) for pool in pools if pool.cutting is not None]
    heads = max((group * shape.num_kv_heads * shape.head_dim for group, shape in used), default=0)
    kept = 4 * (room.words + room.partial_numbers(pools) + room.rows * widths.vocabulary)
    running = step_bytes(limits, widths, heads, itemsize) + eager_rows(limits) * SAMPLED_BYTES
    return kept + running + WORKSPACES * WORKSPACE_BYTES


def pools_of(shape: MemoryShape, cuttings: Sequence[Cutting | None]) -> tuple[Pool, ...]:
    """cuttings: of full layers and, where there are such, of layers with a window."""
    shapes = [shape.full] if shape.window is None else [shape.full, shape.window]
    return tuple(Pool(*each) for each in zip(("full.", "window."), shapes, cuttings, strict=False))
