"""What the kernels that change logits, sample and report are given, and where their numbers stand on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from stemma.kernels.changes import LARGEST_LOGIT, Changes, LogProbs
from stemma.kernels.ops import Int32Array, SamplingRows
from stemma.kernels.tensors import upload
from stemma.kernels.triton.adjust import adjust_kernel
from stemma.kernels.triton.launches import ELEMENTWISE_TILE, Launcher
from stemma.kernels.triton.report import report_kernel, weigh_kernel
from stemma.kernels.triton.sampling import FIELDS, choose_kernel, survey_kernel
from stemma.kernels.triton.targets import Target, cdiv, power_of_2

PART = 2048
ROOM = 2048
"""Candidates of a row."""
GROUP = 32
REPORTED = 512
"""Candidates for a row's most likely tokens."""
REPORTED_ROWS = 256
"""Rows whose log-probabilities are found together: they need 20 KiB each beside them, however long a prompt is."""
PLACES = ("rows", "tokens", "bias", "factors", "added")


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


def read_log_probs(found: npt.NDArray[np.float32], rows: int, count: int) -> LogProbs:
    """What `SamplingKernels.log_probs` has left."""
    own, best, ids = (found[start:end] for start, end in _parts(rows, count))
    shape = rows, count
    return LogProbs(own.tolist(), ids.view(np.int32).reshape(shape).tolist(), best.reshape(shape).tolist())


def log_probs_size(rows: int, count: int) -> int:
    """Numbers that `SamplingKernels.log_probs` leaves."""
    return _parts(rows, count)[2][1]


def _parts(rows: int, count: int) -> list[tuple[int, int]]:
    """Where all rows' own ones, their most likely ones and the ids of these stand: at multiples of 16 bytes, since
    kernels are compiled anew for what stands elsewhere."""
    starts, sizes = [0], (rows, rows * count, rows * count)
    for size in sizes[:2]:
        starts.append(starts[-1] + -(-size // 4) * 4)
    return [(start, start + size) for start, size in zip(starts, sizes, strict=True)]


class Survey(NamedTuple):
    """Of rows of logits: the maxima of groups, and of parts their maxima and weights."""

    maxima: torch.Tensor
    tops: torch.Tensor
    sums: torch.Tensor


class SamplingKernels:
    """Outputs are the caller's; what launches leave for one another is made anew."""

    def __init__(self, target: Target, launch: Launcher) -> None:
        self._launch = launch
        # Left to itself Triton 3.6's ptxas for Blackwell takes 80 registers to report log-probabilities, and spills.
        self._bound = {"maxnreg": 128} if target.family == "blackwell" else {}

    def adjust(self, logits: torch.Tensor, changes: Changes) -> None:
        """In place, logits (rows, vocabulary) float32: all changes from one upload."""
        vocabulary, (places, masks) = logits.shape[1], changes
        guards = np.full(len(logits), -1, dtype=np.int32)
        guards[masks.rows] = np.arange(len(masks.rows), dtype=np.int32)
        arrays = dict(
            zip(PLACES, places, strict=True), guards=guards[places.rows], masked=masks.rows, words=masks.words
        )
        tiles, num_places = cdiv(vocabulary, ELEMENTWISE_TILE), len(places.rows)
        arguments = {
            "logits": logits,
            **_together(arrays, logits.device),
            "vocabulary": vocabulary,
            "num_words": masks.words.shape[1],
            "num_places": num_places,
            "num_tiles": tiles,
            "LARGEST": LARGEST_LOGIT,
            "TILE": ELEMENTWISE_TILE,
        }
        num_programs = len(masks.rows) * tiles + cdiv(num_places, ELEMENTWISE_TILE)
        self._launch(adjust_kernel, (num_programs,), arguments, 4, 1)

    def sample(self, logits: torch.Tensor, fields: Fields, tokens: torch.Tensor) -> None:
        """One token a row of logits (rows, vocabulary) float32."""
        rows, vocabulary = logits.shape
        survey, parts = self._survey(logits, fields), cdiv(vocabulary, PART)
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
            "PARTS_PAD": power_of_2(parts),
            "ROOM": ROOM,
        }
        self._launch(choose_kernel, (rows,), arguments, 8, 1)

    def _survey(self, logits: torch.Tensor, fields: Fields) -> Survey:
        survey, vocabulary = self._empty_survey(logits), logits.shape[1]
        arguments = {"logits": logits, "fields": fields.floats, **survey._asdict()}
        arguments |= {"VOCABULARY": vocabulary, "PART": PART}
        self._launch(survey_kernel, (len(logits), cdiv(vocabulary, PART)), arguments, 4, 1)
        return survey

    def _empty_survey(self, logits: torch.Tensor) -> Survey:
        rows, vocabulary = logits.shape
        parts = cdiv(vocabulary, PART)
        return Survey(*(logits.new_empty((rows, parts * each)) for each in (PART // GROUP, 1, 1)))

    def log_probs(self, logits: torch.Tensor, tokens: torch.Tensor, count: int, found: torch.Tensor) -> None:
        """found: (log_probs_size(rows, count),) float32: see `_parts`; ids as bits of integers."""
        rows, vocabulary = logits.shape
        own, best, ids = (found[start:end] for start, end in _parts(rows, count))
        for first in range(0, rows, REPORTED_ROWS):
            some = slice(first, first + REPORTED_ROWS)
            part, top = logits[some], slice(first * count, (first + REPORTED_ROWS) * count)
            survey = self._empty_survey(part)
            sizes = {"VOCABULARY": vocabulary, "PART": PART}
            num_parts = cdiv(vocabulary, PART)
            arguments = {"logits": part, **survey._asdict(), **sizes}
            self._launch(weigh_kernel, (len(part), num_parts), arguments, 4, 1)
            arguments |= {
                "tokens": tokens[some],
                "places": part.new_empty((len(part), 2, REPORTED), dtype=torch.int32),
                "values": part.new_empty((len(part), REPORTED)),
                "own": own[some],
                "ids": ids.view(torch.int32)[top],
                "best": best[top],
                "count": count,
                "PARTS_PAD": power_of_2(num_parts),
                "ROOM": REPORTED,
                **self._bound,
            }
            self._launch(report_kernel, (len(part),), arguments, 4, 1)


def _together(arrays: dict[str, npt.NDArray[Any]], device: torch.device) -> dict[str, torch.Tensor]:
    """Arrays of words of 32 bits, uploaded at once, each at a multiple of 16 bytes."""
    starts = np.cumsum([0] + [-(-array.size // 4) * 4 for array in arrays.values()]).tolist()
    words = np.zeros(starts[-1] + 4, dtype=np.int32)  # what is empty stands somewhere too
    for start, array in zip(starts, arrays.values(), strict=False):
        words[start : start + array.size] = array.reshape(-1).view(np.int32)
    sent, found = upload(words, device), {}
    for start, (name, array) in zip(starts, arrays.items(), strict=False):
        part = sent[start : start + array.size] if array.size else sent
        found[name] = part.view(torch.float32) if array.dtype == np.float32 else part
    return found
