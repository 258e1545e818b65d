"""Experts by their definition, and latent attention as the plain attention that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.ops import AttentionMetadata, AttentionSpec, KVShape
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.reference_experts import expert_weights
from stemma.kernels.weights import StoredWeight

OUTPUTS = torch.tensor([[0.0, 1.0, 2.0, 3.0], [3.0, 3.0, -1.0, 0.0]], dtype=torch.float64)


def chosen(spec: ExpertsSpec, correction: list[float] | None = None) -> list[list[int]]:
    added = None if correction is None else torch.tensor(correction, dtype=torch.float64)
    return [row.nonzero().flatten().tolist() for row in expert_weights(spec, OUTPUTS, added)]


def test_the_largest_are_chosen_and_the_lower_of_equals() -> None:
    assert chosen(ExpertsSpec(2)) == [[2, 3], [0, 1]]
    assert chosen(ExpertsSpec(1)) == [[3], [0]]
    assert chosen(ExpertsSpec(1, "sigmoid"), [0.0, 0.5, 0.0, 0.0]) == [[1], [1]]


def test_groups() -> None:
    """The best of two groups of two: by one expert, or by both."""
    assert chosen(ExpertsSpec(1, "sigmoid", groups=2, top_groups=1)) == [[3], [0]]
    assert chosen(ExpertsSpec(1, "sigmoid", groups=2, top_groups=1), [0.2, 0.0, 0.0, 0.0]) == [[3], [0]]
    two = ExpertsSpec(1, "sigmoid", groups=2, top_groups=1, group_score="two best")
    assert chosen(two, [0.0, 0.9, 0.0, 0.0]) == [[1], [1]]
    assert chosen(two, [0.5, 0.0, 0.0, 0.0]) == [[3], [0]]
    assert chosen(ExpertsSpec(1, "sigmoid", groups=2, top_groups=1), [0.5, 0.0, 0.0, 0.0]) == [[0], [0]]


def test_weights() -> None:
    plain = expert_weights(ExpertsSpec(2, scaling=2.0), OUTPUTS, None)
    assert torch.allclose(plain[0, 2:], 2 * OUTPUTS[0].softmax(-1)[2:])
    whole = expert_weights(ExpertsSpec(2, renormalise=True), OUTPUTS, None)
    of_chosen = expert_weights(ExpertsSpec(2, "softmax of the chosen"), OUTPUTS, None)
    assert torch.allclose(whole, of_chosen)
    assert torch.allclose(whole.sum(-1), torch.ones(2, dtype=torch.float64))
    corrected = expert_weights(ExpertsSpec(1, "sigmoid"), OUTPUTS, torch.tensor([9.0, 0.0, 0.0, 0.0]))
    assert torch.allclose(corrected[:, 0], OUTPUTS[:, 0].sigmoid())


def stored(*shape: int, seed: int = 0) -> StoredWeight:
    return StoredWeight("F32", shape, np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("new", [1, 5])
def test_latent_attention_is_plain_attention_of_what_the_latents_stand_for(new: int) -> None:
    """Keys and values of each head made of the latent, the rotated part shared by all heads."""
    heads, plain, turned, rank, out, tokens = 3, 8, 4, 16, 6, 9
    ops = ReferenceOps(torch.device("cpu"), torch.float64)
    to_keys = [stored(rank, plain, seed=head) for head in range(heads)]
    to_values = [stored(out, rank, seed=9 + head) for head in range(heads)]
    angles = np.outer(np.arange(20), [1.0, 0.1])
    rope = ops.rope(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))
    latent = torch.randn(tokens, rank + turned, dtype=torch.float64)
    q = torch.randn(tokens, heads * (plain + turned), dtype=torch.float64)
    norm = ops.norm(stored(rank, seed=20), 1e-6)
    shape = KVShape(1, 3, 4, 1, rank + turned, rank)
    kv, spec, got = ops.kv(shape), AttentionSpec(0.3), []
    for start in range(0, tokens, new):
        rows = np.arange(start, min(start + new, tokens), dtype=np.int32)
        ends = np.array([0, len(rows)], dtype=np.int32)
        context = np.array([rows[-1] + 1], dtype=np.int32)
        plan = ops.plan(AttentionMetadata(rows, rows, ends, context, np.arange(3, dtype=np.int32)[None]), shape)
        ops.latent_write(latent[rows], norm, rope, kv, 0, plan)
        queries = ops.latent_queries(q[rows], ops.head_linear(to_keys), rope, plan)
        got.append(ops.multiply_heads(ops.attention(queries, kv, 0, plan, spec), ops.head_linear(to_values)))
    positions = torch.arange(tokens)
    normed, shared = norm(latent[:, :rank]), rope(latent[:, None, rank:], positions)[:, 0]
    of_heads = q.view(tokens, heads, -1)
    want = []
    for head in range(heads):
        keys = torch.cat((normed @ torch.from_numpy(to_keys[head].data).double(), shared), dim=-1)
        rotated = rope(of_heads[:, head : head + 1, plain:], positions)[:, 0]
        scores = torch.cat((of_heads[:, head, :plain], rotated), dim=-1) @ keys.T * 0.3
        scores = scores.masked_fill(torch.ones(tokens, tokens).triu(1) > 0, float("-inf"))
        want.append(scores.softmax(-1) @ (normed @ torch.from_numpy(to_values[head].data).double().T))
    assert torch.allclose(torch.cat(got), torch.cat(want, dim=-1))
    assert kv.num_bytes == 12 * (rank + turned) * 8


def test_blocks_of_latents_come_back() -> None:
    ops = ReferenceOps(torch.device("cpu"), torch.float64)
    kv = ops.kv(KVShape(2, 3, 4, 1, 20, 16))
    kv.keys.copy_(torch.randn_like(kv.keys))
    before, blocks = kv.keys.clone(), np.array([0, 2], dtype=np.int32)
    data = ops.read_blocks(kv, blocks)
    kv.keys.zero_()
    ops.write_blocks(kv, blocks, data)
    assert torch.equal(kv.keys[:, [0, 1, 2, 3, 8, 9, 10, 11]], before[:, [0, 1, 2, 3, 8, 9, 10, 11]])
