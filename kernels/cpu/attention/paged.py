"""The kernels on paged KV that a model's layers need, compiled when they are first asked for.

A window and a soft cap are compiled in, their sizes are not, nor are scales and sinks: a model of layers of two kinds
compiles two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir

from stemma.kernels.cpu.attention.attend import add_attention
from stemma.kernels.cpu.attention.kv import add_rope_write
from stemma.kernels.cpu.attention.latent import add_latent_write, add_turn_tails
from stemma.kernels.cpu.attention.tiles import LOG2_E, SPEC, Shape
from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.words import word_of
from stemma.kernels.ops import AttentionSpec, HeadShape, KVShape


@dataclass(frozen=True, slots=True, eq=False)
class Attend:
    """call: attend(control, q, out, keys, values, block_stride, plan, spec). spec: the address of its words."""

    call: Callable[..., None]
    spec: int
    memory: tuple[Any, ...]


class PagedKernels:
    """Of one back end."""

    def __init__(self, target: Target, kv_dtype: str, cache_dir: Path) -> None:
        self._target, self._kv_dtype, self._cache_dir = target, kv_dtype, cache_dir
        self._libraries: dict[tuple[str, Shape], compile.Library] = {}
        self._attends: dict[tuple[int, KVShape, AttentionSpec], Attend] = {}
        self._tails: dict[tuple[int, int, int], tuple[compile.Library, Callable[..., None]]] = {}
        self._latents: dict[KVShape, Callable[..., None]] = {}
        self._writers: dict[tuple[HeadShape, KVShape], Callable[..., None]] = {}

    def attend(self, num_heads: int, shape: KVShape, spec: AttentionSpec) -> Attend:
        key = num_heads, shape, spec
        found = self._attends.get(key)
        if found is None:
            found = self._attends[key] = self._make_attend(num_heads, shape, spec)
        return found

    def rope_write(self, heads: HeadShape, shape: KVShape) -> Callable[..., None]:
        key = heads, shape
        found = self._writers.get(key)
        if found is None:
            written = shape._replace(num_kv_heads=heads.num_kv_heads)
            library = self._library("rope_write", self._shape(heads.num_heads, written), add_rope_write)
            found = self._writers[key] = library.function("rope_write", 16)
        return found

    def latent_write(self, shape: KVShape) -> Callable[..., None]:
        if shape not in self._latents:
            library = self._library("latent_write", self._shape(shape.num_kv_heads, shape), add_latent_write)
            self._latents[shape] = library.function("latent_write", 10)
        return self._latents[shape]

    def turn_tails(self, heads: int, latent: int, turned: int) -> Callable[..., None]:
        """Of queries of so many heads, for keys of `latent` and `turned` numbers."""
        key = heads, latent, turned
        if key not in self._tails:
            library = compile.load(
                "tails", lambda module: add_turn_tails(module, *key), self._target, ("tails", *key), self._cache_dir
            )
            self._tails[key] = library, library.function("turn_tails", 8)
        return self._tails[key][1]

    def _shape(self, num_heads: int, shape: KVShape, *, windowed: bool = False, softcapped: bool = False) -> Shape:
        heads = num_heads, shape.num_kv_heads, shape.head_dim
        return Shape(*heads, shape.block_size, self._target, self._kv_dtype, windowed, softcapped, shape.value_dim)

    def _make_attend(self, num_heads: int, shape: KVShape, spec: AttentionSpec) -> Attend:
        kind = self._shape(num_heads, shape, windowed=spec.window is not None, softcapped=spec.softcap is not None)
        library = self._library("attend", kind, add_attention)
        sinks = np.array(spec.sinks, dtype=np.float64) * LOG2_E
        sinks = sinks.astype(np.float32)
        values = {
            "score_scale": word_of(spec.scale * LOG2_E), "softcap": word_of((spec.softcap or 0.0) * LOG2_E),
            "window": spec.window or 0, "sinks": sinks.ctypes.data if len(sinks) else 0,
        }  # fmt: skip
        words = np.array([values[name] for name in SPEC], dtype=np.int64)
        return Attend(library.function("attend", 8), words.ctypes.data, (library, words, sinks))

    def _library(self, name: str, shape: Shape, add: Callable[[ir.Module, Shape], None]) -> compile.Library:
        if (name, shape) not in self._libraries:
            self._libraries[name, shape] = compile.load(
                name, lambda module: add(module, shape), self._target, (name, shape), self._cache_dir
            )
        return self._libraries[name, shape]
