"""Codes and scales of any method -> block formats. What no block format holds exactly becomes floats, and is counted.

All matrices here have the outputs first: codes (outputs, inputs), facts (outputs, groups of inputs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.kernels.weights import Ordered, StoredWeight, small_floats
from stemma.runtime.errors import ModelFileError

Array = npt.NDArray[Any]
BLOCK = 32


class Folder:
    """The tensors of a folder while its quantised modules are read: parts are taken out, matrices put in.

    widened: how many matrices became floats, by reason.
    """

    def __init__(self, tensors: Mapping[str, StoredWeight]) -> None:
        self.tensors = dict(tensors)
        self.widened: Counter[str] = Counter()

    def modules(self, ending: str) -> Iterator[str]:
        """Names of what has a part of this ending, without it."""
        yield from [name.removesuffix(ending) for name in self.tensors if name.endswith(ending)]

    def take(self, name: str) -> StoredWeight:
        """Take a part out. Raises ModelFileError if it is not there."""
        found = self.tensors.pop(name, None)
        if found is None:
            raise ModelFileError(f"the model's files hold no tensor {name!r}, which its quantised weights need")
        return found

    def drop(self, *names: str) -> None:
        """Take out what changes no number here."""
        for name in names:
            self.tensors.pop(name, None)

    def put(self, name: str, weight: StoredWeight, reason: str = "") -> None:
        """A matrix in place of its parts, with the reason why it is floats."""
        self.tensors[name] = weight
        if reason:
            self.widened[reason] += 1


def floats(weight: StoredWeight) -> npt.NDArray[np.float32]:
    """The values of a plain tensor: scales of any float type, or whole numbers."""
    data = weight.data
    if weight.type == "BF16":
        return (data.astype(np.uint32) << 16).view(np.float32)
    if weight.type == "F8_E8M0":
        return np.ldexp(np.float32(1), data.astype(np.int32) - 127).astype(np.float32)
    if weight.type == "F8_E4M3":
        return small_floats(np.ascontiguousarray(data).view(np.uint8))
    return data.astype(np.float32)


def unpacked(words: Array, bits: int) -> npt.NDArray[np.uint8]:
    """Codes of some bits that lie one behind the other in words of 32 bits along the last axis, the lowest first."""
    if 32 % bits == 0:
        shifts = np.arange(0, 32, bits, dtype=np.uint32)
        codes = (words.view(np.uint32)[..., None] >> shifts) & np.uint32((1 << bits) - 1)
        return codes.astype(np.uint8).reshape(*words.shape[:-1], -1)
    every = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    by_code = every[..., : every.shape[-1] // bits * bits].reshape(*words.shape[:-1], -1, bits)
    return np.asarray((by_code << np.arange(bits, dtype=np.uint8)).sum(axis=-1, dtype=np.uint8))


def by_block(facts: Array, inputs: int) -> Array:
    """(outputs, groups) -> (outputs, blocks), each block of a group with the group's."""
    return np.repeat(facts, inputs // BLOCK // facts.shape[1], axis=1)


def fits(inputs: int, groups: int) -> bool:
    """Whether groups are whole blocks."""
    return inputs % BLOCK == 0 and inputs // BLOCK % groups == 0


def affine(codes: Array, scales: Array, zeros: Array) -> StoredWeight:
    """scale * (code - zero), codes below 16."""
    outputs, inputs = codes.shape
    data = np.empty((outputs, inputs // BLOCK, 24), dtype=np.uint8)
    facts = np.stack((by_block(scales, inputs), by_block(-zeros * scales, inputs)), axis=-1).astype(np.float32)
    data[..., :8] = facts.view(np.uint8)
    halves = codes.reshape(outputs, -1, 2, 16)
    data[..., 8:] = halves[:, :, 0] | (halves[:, :, 1] << 4)
    return StoredWeight("INT4", (outputs, inputs), data.reshape(outputs, -1))


def beside(floats: StoredWeight, codes: Array, scales: Array, zeros: Array, groups: Array) -> StoredWeight:
    """A matrix of floats, with its codes below 16 in blocks beside it, inputs in order of their groups, where those are
    whole blocks. groups: of each input."""
    inputs, count = codes.shape[1], scales.shape[1]
    if not fits(inputs, count) or (np.bincount(groups, minlength=count) != inputs // count).any():
        return floats
    order = np.argsort(groups, kind="stable").astype(np.int32)
    return replace(floats, ordered=Ordered(floats.data, affine(codes[:, order], scales, zeros), order))


def whole(codes: Array, scales: Array) -> StoredWeight:
    """scale * code, codes signed bytes."""
    return _bytes_with_scales("INT8", codes.view(np.uint8), scales)


def small(codes: Array, scales: Array) -> StoredWeight:
    """scale * float of 8 bits."""
    return _bytes_with_scales("FP8", codes.view(np.uint8), scales)


def smallest(codes: Array, scales: Array) -> StoredWeight:
    """scale * float of 4 bits, a scale for 16 inputs."""
    outputs, inputs = codes.shape
    data = np.empty((outputs, inputs // BLOCK, 24), dtype=np.uint8)
    data[..., :8] = np.ascontiguousarray(scales, dtype=np.float32).reshape(outputs, -1, 2).view(np.uint8)
    halves = codes.reshape(outputs, inputs // BLOCK, 2, 2, 8)
    data[..., 8:] = (halves[..., 0, :] | (halves[..., 1, :] << 4)).reshape(outputs, -1, 16)
    return StoredWeight("FP4", (outputs, inputs), data.reshape(outputs, -1))


def microscaled(codes: Array, exponents: Array) -> StoredWeight:
    """A power of two * float of 4 bits, an exponent for 32 inputs; of several matrices too: codes (..., blocks, 32)."""
    data = np.empty((*exponents.shape, 17), dtype=np.uint8)
    data[..., 0] = exponents
    data[..., 1:] = codes[..., :16] | (codes[..., 16:] << 4)
    shape = (*exponents.shape[:-1], exponents.shape[-1] * BLOCK)
    return StoredWeight("MXFP4", shape, data.reshape(*exponents.shape[:-1], -1))


def nibbles(packed: Array) -> npt.NDArray[np.uint8]:
    """(..., n) bytes -> (..., 2n) numbers of four bits, the lower ones first."""
    return np.stack((packed & 15, packed >> 4), axis=-1).reshape(*packed.shape[:-1], -1)


def _bytes_with_scales(type_: str, codes: Array, scales: Array) -> StoredWeight:
    outputs, inputs = codes.shape
    data = np.empty((outputs, inputs // BLOCK, 36), dtype=np.uint8)
    by_output = np.broadcast_to(scales, (outputs, scales.shape[1]))
    data[..., :4] = np.ascontiguousarray(by_block(by_output, inputs), dtype=np.float32)[..., None].view(np.uint8)
    data[..., 4:] = codes.reshape(outputs, -1, BLOCK)
    return StoredWeight(type_, (outputs, inputs), data.reshape(outputs, -1))


def plain(values: npt.NDArray[np.float32], like: str) -> StoredWeight:
    """Floats of 16 bits where the scales are, as the methods' own kernels round them, else of 32."""
    if like == "F16":
        return StoredWeight("F16", values.shape, values.astype(np.float16))
    if like == "BF16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return StoredWeight("BF16", values.shape, rounded.astype(np.uint16))
    return StoredWeight("F32", values.shape, np.ascontiguousarray(values, dtype=np.float32))


def spread(facts: Array, inputs: int) -> Array:
    """(outputs, groups) -> (outputs, inputs)."""
    return np.repeat(facts, -(-inputs // facts.shape[1]), axis=1)[:, :inputs]
