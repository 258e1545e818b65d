"""Random adapters for the matrices of a checkpoint, and a tiny model with two of them beside it."""

from __future__ import annotations

import re

import numpy as np

from stemma.kernels.ops import Ops
from stemma.runtime.model import LoadedModel
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.files.adapters.merge import Adapter, Change
from stemma.runtime.model.files.adapters.named import lora_of
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors

LINEAR = r"layers\..*(proj|dense|fc|lm_head).*\.weight"


def adapter_of(checkpoint: Checkpoint, seed: int, pattern: str = LINEAR, rank: int = 3) -> Adapter:
    """Of every matrix whose name has the pattern; strong enough to change what the model says."""
    random = np.random.default_rng(seed)
    changes = {}
    for name, tensor in checkpoint.tensors.items():
        if re.search(pattern, name) and len(tensor.shape) == 2:
            outputs, inputs = tensor.shape
            down = random.normal(size=(rank, inputs)) / inputs**0.5
            up = random.normal(size=(outputs, rank))
            changes[name] = Change(down.astype(np.float32), up.astype(np.float32), 0.5)
    assert changes
    return Adapter(f"adapter {seed}", changes, {})


def tiny_checkpoint(family: str) -> Checkpoint:
    config = tiny_config(family)
    return Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,)))


def with_adapters(family: str, ops: Ops) -> LoadedModel:
    """The adapter "one" changes every matrix, "two" some, with another rank."""
    found = tiny_checkpoint(family)
    adapters = {"one": adapter_of(found, 1), "two": adapter_of(found, 2, r"q_proj|o_proj|down|lm_head", rank=5)}
    return assemble(found, ops, loras={name: lora_of(found, name, adapter) for name, adapter in adapters.items()})
