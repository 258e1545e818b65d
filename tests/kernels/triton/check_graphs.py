"""Steps as graphs: the eager step's logits and KV, nothing written beside it, no upload while launches are recorded,
and nothing recorded behind the start.

Without a GPU the recorder runs the recorded function again, on the same buffers, which is what a replay does; with one,
the CUDA recorder is checked too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hybrid_network import NUM_HEADS, VOCABULARY, Hybrid, hybrid_step, shape_of
from triton_support import DEVICE, EXACT, TOLERANCE, metadata_of

from stemma.kernels.limits import StepLimits
from stemma.kernels.memory import Memory, allocate
from stemma.kernels.ops import AttentionMetadata, KVShape
from stemma.kernels.steps import EagerExecutor
from stemma.kernels.triton import graphs
from stemma.kernels.triton.graphs import CudaRecorder, GraphExecutor
from stemma.kernels.triton.keys import Key
from stemma.kernels.triton.kv import TritonKV
from stemma.kernels.triton.ops import TritonOps
from stemma.runtime.model.tiny import tiny

RECORDERS = ["again"] + ["cuda"] * torch.cuda.is_available()
KEYS = (Key(1, 1), Key(4, 4), Key(16, 2), Key(16, 16))
LIMITS = StepLimits(max_running=4, max_batch_tokens=16, context_length=1100)


class Again:
    """Runs the step's function again. Counts recordings, and refuses uploads from the host while it runs."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._patch = patch

    def __call__(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            with self._patch.context() as patch:
                for name in ("from_numpy", "tensor", "as_tensor"):
                    patch.setattr(torch, name, self._refuse)
                return step()

        self.count += 1
        step()  # warming up, as on a GPU: what is made once is sent now
        run()
        return run

    def retire(self) -> None:
        pass

    def _refuse(self, *_: object, **__: object) -> None:
        raise AssertionError("a recorded step may not read what the host holds")


def recorder_of(name: str, patch: pytest.MonkeyPatch) -> Again | CudaRecorder:
    return Again(patch) if name == "again" else CudaRecorder(DEVICE)


def nothing(_: int, __: int) -> None:
    pass


class Bench:
    """A tiny model with two pools of equal contents: one for the eager steps, one for the graphs."""

    def __init__(self, recorder: str, patch: pytest.MonkeyPatch, limits: StepLimits = LIMITS) -> None:
        patch.setattr(graphs, "keys_of", lambda _: KEYS)
        ops = TritonOps(DEVICE, EXACT)
        loaded = tiny(ops)
        self.config, model = loaded.config, loaded.model
        self.shape: KVShape = self.config.memory_shape(240, 16).full
        self.pools: tuple[TritonKV, TritonKV] = (ops.kv(self.shape), ops.kv(self.shape))
        for mine, theirs in zip(self.pools[0].tensors, self.pools[1].tensors, strict=True):
            mine.normal_()
            theirs.copy_(mine)
        self.record = recorder_of(recorder, patch)
        self.eager = EagerExecutor(ops, model, Memory(self.pools[0]))
        memory = Memory(self.pools[1])
        self.graphs = GraphExecutor(ops, model, self.config.num_heads, memory, self.record, limits)
        self.random = np.random.default_rng(1)

    def step(self, sequences: Sequence[tuple[int, int]], shared: Sequence[tuple[int, int, int]] = ()) -> None:
        """Both ways, compared: logits of each sequence's last token, and all of both pools."""
        metadata, _ = metadata_of(sequences, 16, shared)
        ids = self.random.integers(0, self.config.vocab_size, len(metadata.positions)).astype(np.int32)
        rows = (metadata.query_starts[1:] - 1).astype(np.int32)
        self.compare(ids, metadata, rows)

    def compare(self, ids: np.ndarray, metadata: AttentionMetadata, rows: np.ndarray) -> None:
        expected, got = self.eager(ids, metadata, rows).clone(), self.graphs(ids, metadata, rows)
        tolerance = TOLERANCE[EXACT]
        if len(rows):
            assert got.shape == expected.shape
            torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
        for mine, theirs in zip(self.pools[0].tensors, self.pools[1].tensors, strict=True):
            torch.testing.assert_close(theirs, mine, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=RECORDERS)
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(request.param, monkeypatch)


def test_steps_of_all_kinds_in_the_graphs_of_the_start(bench: Bench) -> None:
    """One token, several, drafts, across pieces, over a shared prefix, prompts behind a hit and beside streams, a chunk
    without rows; then smaller ones in the same graphs. What is larger is run all the same."""
    told: list[tuple[int, int]] = []
    bench.graphs.record(lambda done, total: told.append((done, total)))
    assert told == [(number, 4) for number in range(1, 5)]
    bench.step([(20, 1)])
    bench.step([(20, 1), (3, 1), (600, 1)])
    bench.step([(21, 1), (4, 3)])
    bench.step([(1040, 1), (1041, 1), (1030, 1)], shared=[(0, 3, 64)])
    bench.step([(40, 9), (5, 1), (700, 1)])
    bench.step([(300, 13)])
    metadata, _ = metadata_of([(0, 4)], 16)
    bench.compare(np.arange(4, dtype=np.int32), metadata, np.zeros(0, dtype=np.int32))
    bench.step([(25, 1)])
    assert not bench.graphs.counts.eager
    bench.step([(0, 17), (5, 1)])
    bench.step([(1600, 1)] * 2)
    counts = bench.graphs.counts
    assert dict(counts.replayed) == {Key(1, 1): 2, Key(4, 4): 5, Key(16, 2): 1, Key(16, 16): 1}
    assert dict(counts.eager) == {"too large": 1}
    assert (counts.recordings, bench.graphs.num_graphs) == (4, 4)
    assert counts.padding == 2 * (4 - 3) + (16 - 11) + (16 - 13) + (4 - 2)


def test_what_does_not_fit_the_buffers_runs_in_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts longer than it was told: of one token there is room for the partial sums, of ten there is not."""
    bench = Bench("again", monkeypatch, LIMITS._replace(context_length=300))
    bench.graphs.record(nothing)
    bench.step([(2000, 1)])
    bench.step([(2000, 1), (1500, 9)])
    bench.step([(20, 1)])
    assert dict(bench.graphs.counts.eager) == {"no room": 1}
    assert bench.graphs.counts.replayed.total() == 2


def test_nothing_is_recorded_behind_the_start(bench: Bench) -> None:
    bench.step([(20, 1)])
    assert (bench.graphs.num_graphs, dict(bench.graphs.counts.eager)) == (0, {"not recorded": 1})


class HybridBench:
    """A network with windows and states, and two memories of equal contents."""

    def __init__(self, recorder: str, patch: pytest.MonkeyPatch, num_full: int) -> None:
        patch.setattr(graphs, "keys_of", lambda _: (Key(8, 8), Key(72, 2)))
        ops = TritonOps(DEVICE, EXACT)
        network, shape = Hybrid(ops, num_full), shape_of(64, 24, num_full)
        self.memories = allocate(ops, shape), allocate(ops, shape)
        for mine, theirs in zip(*map(tensors_of, self.memories), strict=True):
            mine.normal_()
            theirs.copy_(mine)
        self.eager = EagerExecutor(ops, network, self.memories[0])
        record = recorder_of(recorder, patch)
        self.graphs = GraphExecutor(ops, network, NUM_HEADS, self.memories[1], record, LIMITS)
        self.graphs.record(nothing)
        self.random = np.random.default_rng(1)

    def step(self, metadata: AttentionMetadata) -> None:
        """Both ways, compared: logits of each sequence's last token, and all of both memories."""
        ids = self.random.integers(0, VOCABULARY, len(metadata.positions)).astype(np.int32)
        rows = (metadata.query_starts[1:] - 1).astype(np.int32)
        before = [tensor.clone() for tensor in tensors_of(self.memories[1])]
        expected, got = self.eager(ids, metadata, rows).clone(), self.graphs(ids, metadata, rows)
        tolerance = TOLERANCE[EXACT]
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
        for mine, theirs in zip(*map(tensors_of, self.memories), strict=True):
            torch.testing.assert_close(theirs, mine, rtol=tolerance, atol=tolerance)
        assert metadata.states is not None
        untouched = [slot for slot in range(24) if slot not in metadata.states.targets]
        for old, new in zip(before, tensors_of(self.memories[1]), strict=True):
            if len(new) == 24:
                assert torch.equal(new[untouched], old[untouched])


def tensors_of(memory: Memory) -> list[torch.Tensor]:
    """All that a memory holds, of full layers, windows and states."""
    assert memory.window is not None
    assert memory.states is not None
    return [*memory.full.tensors, *memory.window.tensors, *memory.states.conv, *memory.states.recurrent]


@pytest.mark.parametrize("recorder", RECORDERS)
def test_steps_with_windows_and_states(recorder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording writes nothing. Decode, drafts that each leave a state, what is replayed, a sequence that begins,
    smaller ones, where what the graph has room for beyond them reads and writes no slot; a prompt with a whole cell is
    no graph."""
    bench = HybridBench(recorder, monkeypatch, num_full=1)
    for mine, theirs in zip(*map(tensors_of, bench.memories), strict=True):
        assert torch.equal(mine, theirs)
    bench.step(hybrid_step([(300, (1,)), (40, (1, 1, 1)), (5, (2,))], replayed=[1]))
    bench.step(hybrid_step([(22, (1,))]))
    bench.step(hybrid_step([(0, (9, 4)), (30, (1,))]))
    assert dict(bench.graphs.counts.replayed) == {Key(8, 8): 2, Key(72, 2): 1}
    step = hybrid_step([(0, (70,))])
    assert step.states is not None
    object.__setattr__(step.states, "positions", np.zeros(1, dtype=np.int32))
    bench.step(step)
    assert dict(bench.graphs.counts.eager) == {"cells": 1}


@pytest.mark.parametrize("recorder", RECORDERS)
def test_steps_of_a_model_without_full_layers(recorder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = HybridBench(recorder, monkeypatch, num_full=0)
    bench.step(hybrid_step([(40, (1,)), (5, (1,)), (0, (1,))]))
    assert sum(bench.graphs.counts.replayed.values()) == 1


class Full(Again):
    """A device whose memory holds two recordings."""

    is_retired = False

    def __call__(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        if self.count == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(step)

    def retire(self) -> None:
        self.is_retired = True


def test_what_is_not_recorded_whole_is_not_recorded_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs that there are end together, and the steps are computed operation by operation."""
    bench = Bench("again", monkeypatch)
    full = bench.graphs._recorder = Full(monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        bench.graphs.record(nothing)
    assert full.is_retired
    assert bench.graphs.num_graphs == 0
    bench.step([(9, 1)])
    assert dict(bench.graphs.counts.eager) == {"not recorded": 1}
