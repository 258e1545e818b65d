"""How ranks speak: gloo on hosts, NCCL on GPUs, one each. No GPU is at hand: torch's NCCL is one that writes down what
it is asked, and the GPU is pretended. What these tests cannot show is that real ones answer."""

from __future__ import annotations

import threading
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gpu_pretended import DEVICE, PretendedGPU
from torch import distributed

from stemma.runtime.core.config import EngineConfig
from stemma.runtime.engine import resources
from stemma.runtime.engine.resources import make_ops
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.shards import Shard
from stemma.runtime.parallel import follower
from stemma.runtime.parallel.group import PATIENCE, TorchGroup, open_store
from stemma.runtime.parallel.messages import Begin, device_of


class Nccl:
    """Takes what torch.distributed.ProcessGroupNCCL does, and answers at once."""

    class Options:
        _timeout = timedelta(seconds=1)

    def __init__(self, store, rank: int, size: int, options: Options) -> None:
        self.rank, self.size, self.options = rank, size, options
        self.asked: list[tuple[str, int, torch.device]] = []

    def _note(self, what: str, outputs, inputs) -> SimpleNamespace:
        self.asked.append((what, sum(map(len, outputs)), inputs[0].device))
        return SimpleNamespace(wait=lambda: None)

    def allgather(self, outputs, inputs):
        return self._note("allgather", outputs, inputs)

    def gather(self, outputs, inputs, options):
        assert options.rootRank == 0
        return self._note("gather", outputs, inputs)


@pytest.fixture
def nccl(monkeypatch):
    monkeypatch.setattr(distributed, "ProcessGroupNCCL", Nccl, raising=False)
    monkeypatch.setattr(distributed, "is_nccl_available", lambda: True)


def test_ranks_on_gpus_speak_through_nccl_and_none_waits_on_its_host(nccl):
    gpu = PretendedGPU()
    with gpu.instead_of_cuda(), gpu.here():
        ranks = [TorchGroup(Shard(rank, 2), 1, [5, 3], device_of("cuda", rank), store="a store") for rank in range(2)]
        for rank, group in enumerate(ranks):
            made = group._group
            assert (type(made), made.rank, made.size, made.options._timeout) == (Nccl, rank, 2, PATIENCE)
            assert group.sum(torch.empty((4, 8), device=DEVICE)).shape == (4, 8)
            logits = group.gather(torch.empty((4, (5, 3)[rank]), device=DEVICE))
            assert logits.shape == ((4, 8) if rank == 0 else (4, 3))
            assert made.asked == [("allgather", 2, DEVICE), ("gather", 2 - 2 * rank, DEVICE)]
        assert (gpu.tally.waits, gpu.tally.uploads, gpu.tally.downloads) == ({}, 0, 0)
        assert gpu.tally.launches["add_"] == 2


def test_ranks_on_a_host_speak_through_gloo():
    store, parts = open_store(2), [np.float32([[1, 2]]), np.float32([[10, 20]])]
    found: dict[int, np.ndarray] = {}

    def work(rank: int) -> None:
        group = TorchGroup(Shard(rank, 2), store.port, [2, 2], device_of("cpu", rank), store if rank == 0 else None)
        assert type(group._group) is distributed.ProcessGroupGloo
        found[rank] = group.sum(parts[rank])

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[rank].tolist() for rank in range(2)] == [[[11, 22]]] * 2


def test_each_rank_has_a_gpu_of_its_own(monkeypatch):
    asked = []
    for module in (resources, follower):
        monkeypatch.setattr(module, "select_ops", lambda device, *rest, **options: asked.append((device, options)))
    monkeypatch.setattr("stemma.runtime.parallel.group.check_devices", lambda device, size: None)
    config = EngineConfig(device="cuda", tensor_parallel=3)
    make_ops(config)
    for rank in (1, 2):
        monkeypatch.setattr(follower, "load", lambda source, ops, **more: pytest.fail("far enough"))
        with pytest.raises(pytest.fail.Exception):
            follower._runner(Begin("model", (), config, Shard(rank, 3), 1), None, None)
    assert [device for device, _ in asked] == ["cuda:0", "cuda:1", "cuda:2"]
    assert {options["sharing"] for _, options in asked} == {3}


@pytest.mark.parametrize(
    ("device", "there", "param", "said"),
    [
        ("cuda", 1, "tensor_parallel", "needs 2 GPUs, one a rank; this machine has 1"),
        ("cuda:1", 2, "device", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_ranks_without_a_gpu_each_are_refused(nccl, monkeypatch, device, there, param, said):
    monkeypatch.setattr(resources, "select_ops", lambda *given, **options: "ops")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(InvalidRequest, match=said) as refused:
        make_ops(EngineConfig(device=device, tensor_parallel=2))
    assert refused.value.param == param
    assert make_ops(EngineConfig(device=device)) == "ops"


def test_a_torch_without_nccl_is_refused_and_enough_gpus_are_taken(monkeypatch):
    monkeypatch.setattr(resources, "select_ops", lambda *given, **options: "ops")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for is_there in (False, True):
        monkeypatch.setattr(distributed, "is_nccl_available", lambda found=is_there: found)
        if is_there:
            assert make_ops(EngineConfig(device="cuda", tensor_parallel=2)) == "ops"
        else:
            with pytest.raises(InvalidRequest, match="NCCL"):
                make_ops(EngineConfig(device="cuda", tensor_parallel=2))
