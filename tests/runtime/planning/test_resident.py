"""What a plan says that weights take on a GPU, against what the back end packs when the model is loaded. The GPU is one
that is only called so: matrices are packed on the host."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton has no build for this platform", allow_module_level=True)

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import TritonEmbedding
from stemma.kernels.triton.targets import SM_80, SM_90, Target
from stemma.kernels.weights import FORMATS
from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from stemma.runtime.model.work import work_of
from stemma.runtime.planning.resident import on_device
from tests.kernels.stored import stored

MIXED = {"q_proj": "Q4_K", "k_proj": "Q4_K", "v_proj": "Q6_K", "gate_proj": "Q4_K", "up_proj": "Q4_K", "o_proj": "Q4_K"}
"""As files of Q4_K_M are in half of their layers: what is multiplied together does not fit together."""


class Watched(TritonOps):
    """The bytes of all matrices that were packed, each memory once."""

    def __init__(self, target: Target, quantization: str | None) -> None:
        super().__init__(torch.device("cpu"), torch.bfloat16, "activation", target, lambda *_: None, True, quantization)
        self.made: dict[int, int] = {}

    def free_memory(self) -> int:
        return 1 << 30

    def free_unused(self) -> None:
        """Nothing is kept."""

    @staticmethod
    def tensors_of(made: Any) -> list[torch.Tensor]:
        matrix = made.table if isinstance(made, TritonEmbedding) else made
        parts = [matrix] if isinstance(matrix, torch.Tensor) else [getattr(matrix, name) for name in matrix.__slots__]
        return [part for part in parts if isinstance(part, torch.Tensor)]

    def _watch(self, made: Any) -> Any:
        self.made |= {part.data_ptr(): part.nbytes for part in self.tensors_of(made)}
        self.kept = [*getattr(self, "kept", []), made]  # or memory would be used again
        return made

    def linear(self, *given: Any, **named: Any) -> Any:
        return self._watch(super().linear(*given, **named))

    def embedding(self, *given: Any, **named: Any) -> Any:
        return self._watch(super().embedding(*given, **named))

    def head_linear(self, *given: Any, **named: Any) -> Any:
        return self._watch(super().head_linear(*given, **named))


def packed_bytes(checkpoint: Checkpoint, target: Target, quantization: str | None) -> int:
    ops = Watched(target, quantization)
    assemble(checkpoint, ops)
    return sum(ops.made.values())


def llama_of(types: dict[str, str], default: str, tied: bool = False) -> Checkpoint:
    """Large enough for the largest blocks; more rows than are packed to find out."""
    sizes = {
        "model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
        "head_dim": 64, "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 515,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": tied,
    }  # fmt: skip
    config = read_config(sizes, "llama")
    tensors = tiny_tensors(config, 0)
    for number, (name, tensor) in enumerate(tensors.items()):
        if len(tensor.shape) == 2:
            type_ = next((found for part, found in types.items() if part in name), default)
            tensors[name] = stored(type_, tensor.shape, number)
    return Checkpoint(config, tensors, byte_tokenizer(), GenerationDefaults((256,)))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["BF16", *sorted(FORMATS), "mixed"])
def test_matrices_of_files(kind: str, tied: bool) -> None:
    types, default = (MIXED, "Q6_K") if kind == "mixed" else ({}, kind)
    checkpoint = llama_of(types, default, tied)
    packed = packed_bytes(checkpoint, SM_90, None)
    ops = Watched(SM_90, None)
    planned = on_device(work_of(checkpoint), checkpoint, ops)
    assert planned.weight_bytes == pytest.approx(packed, rel=0.01)  # the head's odd rows, which are in tiles
    table = ops.linear([checkpoint.tensors["model.embed_tokens.weight"]])
    numbers = [each.nbytes for each in ops.tensors_of(table)]
    beside = 0 if tied else pytest.approx(sum(numbers), rel=0.13)  # rows that fill a tile up, likewise
    assert planned.weight_bytes - planned.row_bytes == beside


def test_blocks_whose_scales_float16_has_not_are_dense() -> None:
    checkpoint = llama_of({}, "MXFP4")
    for tensor in checkpoint.tensors.values():
        if tensor.type == "MXFP4":
            tensor.data.reshape(-1, 17)[:, 0] = 95  # the exponent
    stored_work = work_of(checkpoint)
    planned = on_device(stored_work, checkpoint, Watched(SM_90, None))
    assert planned.row_bytes > 3 * stored_work.row_bytes
    assert planned.weight_bytes == packed_bytes(checkpoint, SM_90, None)


@pytest.mark.parametrize(
    "family", ["llama", "mixtral", "qwen2_moe", "deepseek_v2", "qwen3_next", "mamba2", "gemma3_text"]
)
@pytest.mark.parametrize(("target", "quantization"), [(SM_80, None), (SM_90, "fp8")])
def test_families(family: str, target: Target, quantization: str | None) -> None:
    config = tiny_config(family)
    checkpoint = Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,)))
    planned = on_device(work_of(checkpoint), checkpoint, Watched(target, quantization))
    assert planned.weight_bytes == packed_bytes(checkpoint, target, quantization)
    assert bool(planned.expert_bytes) == (config.experts is not None)


def test_where_memory_is_the_hosts_nothing_is_asked() -> None:
    checkpoint = llama_of({}, "Q2_K")
    assert on_device(work_of(checkpoint), checkpoint, ReferenceOps(torch.device("cpu"))) == work_of(checkpoint)


def test_files_that_lack_a_tensor_are_told() -> None:
    checkpoint = llama_of({}, "BF16")
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if "o_proj" not in name}
    lacking = Checkpoint(checkpoint.config, tensors, byte_tokenizer(), GenerationDefaults((256,)))
    with pytest.raises(ModelFileError, match="o_proj"):
        on_device(work_of(lacking), lacking, Watched(SM_90, None))
