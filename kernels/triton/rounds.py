"""A step cut into rounds for layers with a state: whole cells of 64 tokens are matrix products, others one token after
the other. Cells stand at multiples of 64 of a sequence's own positions:

    positions      100   128            192            256  270
    one piece      |-----|------- cell -|------- cell -|----|
    round 0        walked                                             with the tokens of all other sequences
    round 1              as cells
    round 2                                            walked

So a token's result does not depend on where a step or a piece ends, but for whether that divides its cell. Between
rounds a state waits in the slot to which its piece is written anyway. No kernel runs here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch

from stemma.kernels.ops import Int32Array
from stemma.kernels.states import StateMetadata
from stemma.kernels.triton.uploads import Uploads

CELL = 64
"""Tokens: what the newest matrix instructions take at once."""

Kind = Literal["tokens", "cells"]


class Part(NamedTuple):
    """Some rows of a piece, all of one kind. starts, ends: rows of the step."""

    start: int
    end: int
    source: int
    target: int


class Round(NamedTuple):
    """What can be computed side by side: of each sequence a run, parts of one kind one behind the other."""

    kind: Kind
    runs: list[list[Part]]


class Walk(NamedTuple):
    """A round on the device. arrays: rows (runs + 1,), starts, ends, sources, targets (pieces,), and of cells the first
    row of each; starts and ends count rows, or cells."""

    kind: Kind
    num_runs: int
    num_cells: int
    arrays: dict[str, torch.Tensor]


def cut_rounds(metadata: StateMetadata) -> list[Round]:
    """The rounds of a step; [] if none of its cells is whole, or nobody says where they are."""
    positions = metadata.positions
    if positions is None or int(np.diff(metadata.starts).max()) < CELL:
        return []
    rounds: list[Round] = []
    for index, position in enumerate(positions.tolist()):
        for number, run in enumerate(runs_of(metadata, index, position)):
            if len(rounds) == number:
                rounds.append(Round("cells" if number % 2 else "tokens", []))
            if run:
                rounds[number].runs.append(run)
    return rounds if len(rounds) > 1 else []


def runs_of(metadata: StateMetadata, index: int, position: int) -> list[list[Part]]:
    """Of one sequence: walked, as cells, walked, ...; the first may be empty."""
    pieces = range(int(metadata.rows[index]), int(metadata.rows[index + 1]))
    offset = position - int(metadata.starts[pieces.start])
    runs: list[list[Part]] = [[]]
    for piece in pieces:
        for kind, part in parts_of(metadata, piece, offset):
            if (kind == "cells") != (len(runs) % 2 == 0):
                runs.append([])
            runs[-1].append(part)
    return runs


def parts_of(metadata: StateMetadata, piece: int, offset: int) -> list[tuple[Kind, Part]]:
    """A piece's rows before its whole cells, those of them, and those behind. offset: of positions from rows."""
    start, end = int(metadata.starts[piece]), int(metadata.starts[piece + 1])
    source, target = int(metadata.sources[piece]), int(metadata.targets[piece])
    first = -(-(start + offset) // CELL) * CELL - offset
    last = (end + offset) // CELL * CELL - offset
    if first >= last:
        return [("tokens", Part(start, end, source, target))]
    ranges: list[tuple[Kind, int, int]] = [("tokens", start, first), ("cells", first, last), ("tokens", last, end)]
    result: list[tuple[Kind, Part]] = []
    for kind, begin, stop in ranges:
        if begin < stop:
            result.append((kind, Part(begin, stop, target if result else source, target)))
    return result


def walks_of(rounds: list[Round], device: torch.device) -> tuple[Walk, ...]:
    """The rounds on the device, sent at once."""
    if not rounds:
        return ()
    arrays: dict[str, Int32Array] = {}
    for number, each in enumerate(rounds):
        arrays |= {f"{name} {number}": array for name, array in arrays_of(each).items()}
    uploads = Uploads({name: len(array) for name, array in arrays.items()}, device)
    uploads.send(arrays, fill={})
    walks = []
    for number, each in enumerate(rounds):
        names = [name for name in arrays if name.endswith(f" {number}")]
        held = {name.split()[0]: uploads[name] for name in names}
        walks.append(Walk(each.kind, len(each.runs), len(held.get("cells", ())), held))
    return tuple(walk for walk in walks if walk.num_runs)


def arrays_of(each: Round) -> dict[str, Int32Array]:
    parts = np.array([part for run in each.runs for part in run], dtype=np.int32).reshape(-1, len(Part._fields))
    starts, ends = parts[:, 0], parts[:, 1]
    arrays = {
        "rows": np.cumsum([0, *map(len, each.runs)]).astype(np.int32),
        "starts": starts,
        "ends": ends,
        "sources": parts[:, 2],
        "targets": parts[:, 3],
    }
    if each.kind == "cells":
        counts = (ends - starts) // CELL
        behind = np.cumsum(counts).astype(np.int32)
        rows = [row for part in parts for row in range(part[0], part[1], CELL)]
        arrays |= {"starts": behind - counts, "ends": behind, "cells": np.array(rows, dtype=np.int32)}
    return arrays
