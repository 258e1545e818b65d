"""Steps as graphs: the eager step's logits and KV, nothing written beside it, no upload while launches are recorded.

Without a GPU the recorder runs the recorded function again, on the same buffers, which is what a replay does; with one,
the CUDA recorder is checked too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hybrid_network import NUM_HEADS, VOCABULARY, Hybrid, hybrid_step, shape_of
from triton_support import DEVICE, EXACT, INTERPRETED, TOLERANCE, metadata_of

from stemma.kernels.memory import Memory, allocate
from stemma.kernels.ops import AttentionMetadata, KVShape
from stemma.kernels.steps import EagerExecutor
from stemma.kernels.triton import graphs, plan
from stemma.kernels.triton.graphs import CudaRecorder, GraphExecutor, round_up
from stemma.kernels.triton.kv import TritonKV
from stemma.kernels.triton.ops import TritonOps
from stemma.runtime.model.tiny import tiny

RECORDERS = ["again"] + ["cuda"] * torch.cuda.is_available()


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
        run()
        return run

    def _refuse(self, *_: object, **__: object) -> None:
        raise AssertionError("a recorded step may not read what the host holds")


class Bench:
    """A tiny model with two pools of equal contents: one for the eager steps, one for the graphs."""

    def __init__(self, recorder: str, patch: pytest.MonkeyPatch) -> None:
        ops = TritonOps(DEVICE, EXACT)
        loaded = tiny(ops)
        self.config, model = loaded.config, loaded.model
        self.shape: KVShape = self.config.memory_shape(200, 16).full
        self.pools: tuple[TritonKV, TritonKV] = (ops.kv(self.shape), ops.kv(self.shape))
        for mine, theirs in zip(self.pools[0].tensors, self.pools[1].tensors, strict=True):
            mine.normal_()
            theirs.copy_(mine)
        self.record = Again(patch) if recorder == "again" else CudaRecorder()
        self.eager = EagerExecutor(ops, model, Memory(self.pools[0]))
        self.graphs = GraphExecutor(ops, model, self.config.num_heads, Memory(self.pools[1]), self.record)
        self.random = np.random.default_rng(1)

    def step(self, sequences: Sequence[tuple[int, int]], shared: Sequence[tuple[int, int, int]] = ()) -> None:
        """Both ways, compared: logits of each sequence's last token, and all of both pools."""
        metadata, _ = metadata_of(sequences, 16, shared)
        ids = self.random.integers(0, self.config.vocab_size, len(metadata.positions)).astype(np.int32)
        rows = (metadata.query_starts[1:] - 1).astype(np.int32)
        self.compare(ids, metadata, rows)

    def compare(self, ids: np.ndarray, metadata: AttentionMetadata, rows: np.ndarray) -> None:
        expected, got = self.eager(ids, metadata, rows).clone(), self.graphs(ids, metadata, rows)
        assert got.shape == expected.shape
        tolerance = TOLERANCE[EXACT]
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
        for mine, theirs in zip(self.pools[0].tensors, self.pools[1].tensors, strict=True):
            torch.testing.assert_close(theirs, mine, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=RECORDERS)
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(request.param, monkeypatch)


def test_steps_of_all_sizes(bench: Bench) -> None:
    """One, several, some with drafts, across pieces, over a shared prefix; then smaller ones in the same graphs."""
    bench.step([(20, 1)])
    bench.step([(20, 1), (3, 1), (600, 1)])
    bench.step([(21, 1), (4, 3), (0, 2)])
    bench.step([(1040, 1), (1041, 1), (1030, 1)], shared=[(0, 3, 64)])
    made = bench.graphs.num_graphs
    bench.step([(25, 1)])
    bench.step([(40, 1), (9, 1), (610, 1)])
    assert bench.graphs.num_graphs == made


def test_prompts_and_steps_without_rows_are_not_recorded(bench: Bench) -> None:
    bench.step([(0, graphs.MOST_TOKENS_OF_A_SEQUENCE + 1), (5, 1)])
    metadata, _ = metadata_of([(0, 4)], 16)
    no_rows = np.zeros(0, dtype=np.int32)
    assert bench.graphs(np.arange(4, dtype=np.int32), metadata, no_rows).numel() == 0
    assert bench.graphs.num_graphs == 0


def test_the_least_recently_used_graph_goes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    for count in (1, 2, 4, 2, 1):
        bench.step([(10 + index, 1) for index in range(count)])
    assert bench.graphs.num_graphs == 2


class HybridBench:
    """A network with windows and states, and two memories of equal contents."""

    def __init__(self, recorder: str, patch: pytest.MonkeyPatch, num_full: int) -> None:
        ops = TritonOps(DEVICE, EXACT)
        network, shape = Hybrid(ops, num_full), shape_of(64, 24, num_full)
        self.memories = allocate(ops, shape), allocate(ops, shape)
        for mine, theirs in zip(*map(tensors_of, self.memories), strict=True):
            mine.normal_()
            theirs.copy_(mine)
        self.record = Again(patch) if recorder == "again" else CudaRecorder()
        self.eager = EagerExecutor(ops, network, self.memories[0])
        self.graphs = GraphExecutor(ops, network, NUM_HEADS, self.memories[1], self.record)
        self.random = np.random.default_rng(1)

    def step(self, metadata: AttentionMetadata) -> None:
        """Both ways, compared: logits of each sequence's last token, and all of both memories."""
        ids = self.random.integers(0, VOCABULARY, len(metadata.positions)).astype(np.int32)
        rows = (metadata.query_starts[1:] - 1).astype(np.int32)
        before = [tensor.clone() for tensor in tensors_of(self.memories[0])]
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
    """Decode, drafts that each leave a state, what is replayed, a sequence that begins; smaller ones in the same
    graph, where what the graph has room for beyond them reads and writes no slot."""
    bench = HybridBench(recorder, monkeypatch, num_full=1)
    bench.step(hybrid_step([(300, (1,)), (40, (1, 1, 1)), (5, (2,))], replayed=[1]))
    bench.step(hybrid_step([(310, (1,)), (0, (1, 1, 1)), (7, (1,))]))
    assert bench.graphs.num_graphs == 1
    bench.step(hybrid_step([(22, (1,))]))
    bench.step(hybrid_step([(0, (9, 4)), (30, (1,))]))
    assert bench.graphs.num_graphs == 2


@pytest.mark.parametrize("recorder", RECORDERS)
def test_steps_of_a_model_without_full_layers(recorder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = HybridBench(recorder, monkeypatch, num_full=0)
    bench.step(hybrid_step([(40, (1,)), (5, (1,)), (0, (1,))]))
    assert bench.graphs.num_graphs == 1


@pytest.mark.skipif(not INTERPRETED, reason="counts what the interpreter's recorder did")
def test_contexts_grow_within_few_graphs(bench: Bench) -> None:
    """Sizes are rounded up to powers of two: a sequence that grows does not need a graph each step."""
    for context in range(1, 600, 37):
        bench.step([(context, 1), (context // 2, 1)])
    assert isinstance(bench.record, Again)
    assert bench.record.count <= 2 * round_up(600 // 16).bit_length()


def test_rounding() -> None:
    assert [round_up(count) for count in (0, 1, 2, 3, 4, 5, 64, 65)] == [0, 1, 2, 4, 4, 8, 64, 128]
    assert plan.Capacity(*map(round_up, plan.Capacity(3, 100, 5, 0, 0))) == plan.Capacity(4, 128, 8, 0, 0)
