"""Tensors in, one kernel launched, tensors out: what each kernel is given, with which tile, on which grid.

Every launch passes through one function that can be replaced: proof.py records there what would run on a GPU.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, Protocol

import torch
import triton
import triton.language as tl

from stemma.kernels.experts import Activation, GatedActivation
from stemma.kernels.ops import AttentionSpec, HeadNorms, HeadShape
from stemma.kernels.triton.attention import VALUE_GAIN, attend_kernel, merge_kernel
from stemma.kernels.triton.blocks import copy_kernel
from stemma.kernels.triton.kv import FP8_SCALES, LIMITS, TritonKV
from stemma.kernels.triton.norm import gated_kernel, norm_kernel
from stemma.kernels.triton.packing import TritonNorm, TritonRope
from stemma.kernels.triton.plan import AttentionPlan
from stemma.kernels.triton.rope import LARGEST_SCALE, SMALLEST_SCALE, rope_write_kernel
from stemma.kernels.triton.targets import AttentionTile, Target, cdiv, narrow_tile, power_of_2, wide_tile

ELEMENTWISE_TILE = 1024
MERGED_PIECES = 16
MERGE_PROGRAMS = 8
ROPE_HEADS = 4
DOTS = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


class TritonSpec(NamedTuple):
    """AttentionSpec as kernels read it: scores, caps and sinks in powers of 2, sinks on the device."""

    scale: float
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None

    @classmethod
    def of(cls, spec: AttentionSpec, device: torch.device) -> TritonSpec:
        base = math.log2(math.e)
        sinks = torch.tensor(spec.sinks, dtype=torch.float32, device=device) * base if spec.sinks else None
        return cls(spec.scale * base, spec.window, None if spec.softcap is None else spec.softcap * base, sinks)


class Launcher(Protocol):
    def __call__(
        self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], num_warps: int, num_stages: int
    ) -> None: ...


def run(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], num_warps: int, num_stages: int) -> None:
    kernel[grid](**arguments, num_warps=num_warps, num_stages=num_stages)


def pad(head_dim: int) -> int:
    """The dimensions of a head as a tile has them: a power of two that a tensor core takes."""
    return max(16, power_of_2(head_dim))


def dot_type(dtype: torch.dtype) -> tl.dtype:
    """What matrices of activations are multiplied as."""
    # The interpreter keeps bfloat16 as 16-bit integers and would multiply those.
    interpreted = bool(triton.knobs.runtime.interpret)
    return tl.float32 if interpreted and dtype == torch.bfloat16 else DOTS[dtype]


class Kernels:
    """The kernels for one target and one type of activations. Outputs are the caller's."""

    def __init__(self, target: Target, dtype: torch.dtype, launch: Launcher = run) -> None:
        self._target = target
        self._launch = launch
        self._tiles: dict[tuple[int, int, int], tuple[AttentionTile, AttentionTile]] = {}
        self._dot = dot_type(dtype)
        self._dot_of_pairs = dot_type(torch.float16) if dtype == torch.bfloat16 else self._dot

    def attention_tiles(self, group: int, head_dim: int, kv_bytes: int) -> tuple[AttentionTile, AttentionTile]:
        """Of narrow and of wide rectangles."""
        key = group, head_dim, kv_bytes
        if key not in self._tiles:
            self._tiles[key] = self._choose(*key)
        return self._tiles[key]

    def _choose(self, group: int, head_dim: int, kv_bytes: int) -> tuple[AttentionTile, AttentionTile]:
        least = power_of_2(group)
        narrow, wide = (choose(self._target, pad(head_dim), kv_bytes) for choose in (narrow_tile, wide_tile))
        return narrow._replace(rows=max(narrow.rows, least)), wide._replace(rows=max(wide.rows, least))

    def attend(
        self, q: torch.Tensor, kv: TritonKV, layer: int, positions: torch.Tensor, plan: AttentionPlan, spec: TritonSpec,
        out: torch.Tensor,
    ) -> None:  # fmt: skip
        """All rectangles of the plan, then the merge of their pieces. q: (tokens, heads, head_dim). out: value_dim."""
        tiles = self.attention_tiles(plan.cutting.group, kv.shape.head_dim, kv.keys.itemsize)
        changing = {"q": q, "out": out, **kv.read_layer(layer)}
        names: tuple[Literal["narrow", "wide"], ...] = ("narrow", "wide")
        for name, tile, is_there in zip(names, tiles, plan.launches, strict=False):
            if not is_there:
                continue
            if (name, spec) not in plan.arguments:
                plan.arguments[name, spec] = self._rectangles(plan, name, tile, kv, spec) | {"positions": positions}
            grid = (self._target.multiprocessors * tile.programs,)
            arguments = plan.arguments[name, spec] | changing
            self._launch(attend_kernel, grid, arguments, tile.num_warps, tile.num_stages)
        if plan.launches.merge:
            self._merge(plan, kv.shape.value_dim or kv.shape.head_dim, spec, out)

    def _rectangles(
        self, plan: AttentionPlan, name: Literal["narrow", "wide"], tile: AttentionTile, kv: TritonKV, spec: TritonSpec
    ) -> dict[str, Any]:
        """What is the same for all layers of a step."""
        shape = kv.shape
        value_dim = shape.value_dim or shape.head_dim
        least = 16 if kv.scales is None else 32  # a matrix instruction takes 16, and pairs are made two operands
        return {
            "partial_out": plan.partials.out,
            "partial_stats": plan.partials.stats,
            "step": plan.fields.words,
            "listed": plan.listed(name),
            "partial_starts": plan.fields["partial_starts"],
            "score_scale": spec.scale,
            "window": spec.window or 0,
            "softcap": spec.softcap or 0.0,
            "sinks": plan.partials.stats if spec.sinks is None else spec.sinks,
            "NUM_KV_HEADS": shape.num_kv_heads,
            "GROUP": plan.cutting.group,
            "HEAD_DIM": shape.head_dim,
            "HEAD_PAD": max(least, pad(shape.head_dim)),
            "VALUE_DIM": value_dim,
            "VALUE_PAD": max(least, pad(value_dim)),
            "BLOCK_SIZE": shape.block_size,
            "ROWS": tile.rows,
            "TOKENS": tile.tokens,
            "SCALED": kv.scales is not None,
            "GAIN": VALUE_GAIN,
            "DOT": self._dot if kv.scales is None else self._dot_of_pairs,
            "WINDOWED": spec.window is not None,
            "SOFTCAP": spec.softcap is not None,
            "SINKS": spec.sinks is not None,
            "FP8_SCALE": FP8_SCALES.get(kv.keys.dtype, 0),
            "PTX": self._target.backend == "cuda" and not triton.knobs.runtime.interpret,
            **({"maxnreg": tile.registers} if tile.registers else {}),
        }

    def _merge(self, plan: AttentionPlan, head_dim: int, spec: TritonSpec, out: torch.Tensor) -> None:
        if ("merge", spec) not in plan.arguments:
            plan.arguments["merge", spec] = {
                "partial_out": plan.partials.out,
                "partial_stats": plan.partials.stats,
                "merged_rows": plan.fields["merged_rows"],
                "num_merged_rows": plan.listed("merged"),
                "partial_starts": plan.fields["partial_starts"],
                "sinks": plan.partials.stats if spec.sinks is None else spec.sinks,
                "NUM_HEADS": plan.partials.out.shape[1],
                "HEAD_DIM": head_dim,
                "HEAD_PAD": pad(head_dim),
                "PIECES": MERGED_PIECES,
                "SINKS": spec.sinks is not None,
            }
        grid = (self._target.multiprocessors * MERGE_PROGRAMS,)
        self._launch(merge_kernel, grid, plan.arguments["merge", spec] | {"out": out}, 2, 2)

    def rope_write(
        self, qkv: torch.Tensor, heads: HeadShape, rope: TritonRope | None, norms: HeadNorms, kv: TritonKV, layer: int,
        places: tuple[torch.Tensor, torch.Tensor], q: torch.Tensor,
    ) -> None:  # fmt: skip
        """Q of qkv to `q`, K and V to the slots of the pool. places: positions and slots. norms: of single heads."""
        q_norm, k_norm, behind, v_norm = norms
        positions, slots = places
        num_values = 0 if kv.shape.value_dim else heads.num_kv_heads
        arguments = {
            "qkv": qkv,
            "q": q,
            **kv.layer(layer),
            "cos": qkv if rope is None else rope.cos,
            "sin": qkv if rope is None else rope.sin,
            "q_norm": qkv if q_norm is None else q_norm.weight,
            "k_norm": qkv if k_norm is None else k_norm.weight,
            "v_norm": qkv if v_norm is None else v_norm.weight,
            "positions": positions,
            "slots": slots,
            "q_epsilon": 0.0 if q_norm is None else q_norm.epsilon,
            "k_epsilon": 0.0 if k_norm is None else k_norm.epsilon,
            "v_epsilon": 0.0 if v_norm is None else v_norm.epsilon,
            "NUM_HEADS": heads.num_heads,
            "NUM_KV_HEADS": heads.num_kv_heads,
            "NUM_VALUES": num_values,
            "HALF": heads.head_dim // 2,
            "HALF_PAD": power_of_2(heads.head_dim // 2),
            "BLOCK_SIZE": kv.shape.block_size,
            "HEADS": ROPE_HEADS,
            "Q_NORM": q_norm is not None,
            "K_NORM": k_norm is not None,
            "V_NORM": v_norm is not None,
            "NORMS_BEHIND": behind,
            "ROTATED": rope is not None,
            "SCALED": kv.scales is not None,
            "LIMIT": LIMITS.get(kv.keys.dtype, 0.0),
            "SMALLEST": SMALLEST_SCALE,
            "LARGEST": LARGEST_SCALE,
            "LARGEST_OF_VALUES": LARGEST_SCALE / VALUE_GAIN,
        }
        grid = (len(qkv), cdiv(heads.num_heads + heads.num_kv_heads + num_values, ROPE_HEADS))
        self._launch(rope_write_kernel, grid, arguments, 1, 1)

    def norm(self, x: torch.Tensor, norm: TritonNorm, rows: torch.Tensor | None, out: torch.Tensor) -> None:
        """out = norm(x), or norm(x[rows])."""
        features = x.shape[1]
        arguments = {
            "x": x,
            "weight": norm.weight,
            "bias": norm.weight if norm.bias is None else norm.bias,
            "out": out,
            "rows": x if rows is None else rows,
            "epsilon": norm.epsilon,
            "FEATURES": features,
            "FEATURES_PAD": power_of_2(features),
            "GATHER": rows is not None,
            "CENTRED": norm.centred,
            "BIAS": norm.bias is not None,
        }
        self._launch(norm_kernel, (len(out),), arguments, 4 if features <= 4096 else 8, 1)

    def gated(self, gate_up: torch.Tensor, activation: GatedActivation, out: torch.Tensor) -> None:
        """out = activation(gate) * up, each half of the columns of gate_up."""
        self._activate(gate_up, activation, True, out)

    def activated(self, x: torch.Tensor, activation: Activation, out: torch.Tensor) -> None:
        """out = activation(x)."""
        self._activate(x, activation, False, out)

    def _activate(self, x: torch.Tensor, activation: GatedActivation, gated: bool, out: torch.Tensor) -> None:
        features = out.shape[1]
        arguments = {
            "gate_up": x,
            "out": out,
            "FEATURES": features,
            "TILE": ELEMENTWISE_TILE,
            "GATED": gated,
            "ACTIVATION": activation,
        }
        self._launch(gated_kernel, (len(out), cdiv(features, ELEMENTWISE_TILE)), arguments, 4, 1)

    def copy(self, pool: torch.Tensor, copies: torch.Tensor) -> None:
        """Independent copies (copies, 3) within a pool (layers, blocks, kv_heads, block_size[, head_dim])."""
        num_layers, num_blocks, num_kv_heads, block_size = pool.shape[:4]
        arguments = {
            "pool": pool,
            "copies": copies,
            "num_blocks": num_blocks,
            "NUM_KV_HEADS": num_kv_heads,
            "BLOCK_SIZE": block_size,
            "ROW": math.prod(pool.shape[4:]),
            "TILE": ELEMENTWISE_TILE,
        }
        self._launch(copy_kernel, (len(copies), num_layers, num_kv_heads), arguments, 4, 1)
