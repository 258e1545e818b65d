"""What the kernels of masks and sampling are given, and where their numbers stand on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import triton

from stemma.kernels.ops import Int32Array, SamplingRows
from stemma.kernels.triton.launches import ELEMENTWISE_TILE, Launcher
from stemma.kernels.triton.sampling import FIELDS, choose_kernel, mask_kernel, survey_kernel

PART = 2048
ROOM = 2048
"""Candidates of a row."""
GROUP = 32


class Fields(NamedTuple):
    """`SamplingRows` on the device: one memory (rows, FIELDS), read in three ways."""

    floats: torch.Tensor
    counts: torch.Tensor
    draws: torch.Tensor

    @classmethod
    def of(cls, words: torch.Tensor) -> Fields:
        """words: (rows, FIELDS) int32."""
        return cls(words.view(torch.float32), words, words.view(torch.float64))


def packed_fields(rows: SamplingRows) -> Int32Array:
    """(rows, FIELDS), as `choose_kernel` reads them."""
    words = np.zeros((len(rows.temperature), FIELDS.value), dtype=np.int32)
    floats: npt.NDArray[np.float32] = words.view(np.float32)
    floats[:, 0], words[:, 1], floats[:, 2], floats[:, 3] = rows.temperature, rows.top_k, rows.top_p, rows.min_p
    words.view(np.float64)[:, 2] = rows.uniform
    return words


def upload(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """To the device, without waiting for what it is doing."""
    host = torch.from_numpy(np.ascontiguousarray(array))
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host


class Survey(NamedTuple):
    """Of rows of logits: the maxima of groups, and of parts their maxima and weights."""

    maxima: torch.Tensor
    tops: torch.Tensor
    sums: torch.Tensor


class SamplingKernels:
    """Outputs are the caller's; what launches leave for one another is made anew."""

    def __init__(self, launch: Launcher) -> None:
        self._launch = launch

    def mask(self, logits: torch.Tensor, words: torch.Tensor, rows: torch.Tensor) -> None:
        """In place: -inf where a bit of words (rows, ceil(vocabulary / 32)) is 0."""
        vocabulary = logits.shape[1]
        arguments = {
            "logits": logits,
            "words": words,
            "rows": rows,
            "vocabulary": vocabulary,
            "num_words": words.shape[1],
            "TILE": ELEMENTWISE_TILE,
        }
        self._launch(mask_kernel, (len(rows), triton.cdiv(vocabulary, ELEMENTWISE_TILE)), arguments, 4, 1)

    def sample(self, logits: torch.Tensor, fields: Fields, tokens: torch.Tensor) -> None:
        """One token a row of logits (rows, vocabulary) float32."""
        rows, vocabulary = logits.shape
        survey, parts = self._survey(logits, fields), triton.cdiv(vocabulary, PART)
        arguments = {
            "logits": logits,
            "fields": fields.floats,
            "counts": fields.counts,
            "draws": fields.draws,
            **survey._asdict(),
            "places": logits.new_empty((rows, 2, ROOM), dtype=torch.int32),
            "values": logits.new_empty((rows, ROOM)),
            "weights": logits.new_empty((rows, ROOM), dtype=torch.float64),
            "tokens": tokens,
            "VOCABULARY": vocabulary,
            "PART": PART,
            "PARTS_PAD": triton.next_power_of_2(parts),
            "ROOM": ROOM,
        }
        self._launch(choose_kernel, (rows,), arguments, 8, 1)

    def _survey(self, logits: torch.Tensor, fields: Fields) -> Survey:
        rows, vocabulary = logits.shape
        parts = triton.cdiv(vocabulary, PART)
        survey = Survey(*(logits.new_empty((rows, parts * each)) for each in (PART // GROUP, 1, 1)))
        arguments = {"logits": logits, "fields": fields.floats, **survey._asdict()}
        arguments |= {"VOCABULARY": vocabulary, "PART": PART}
        self._launch(survey_kernel, (rows, parts), arguments, 4, 1)
        return survey
