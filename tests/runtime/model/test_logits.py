"""Logits against transformers: shards, half precision, and the real model. Families have a file of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from stemma.kernels.weights import dequantize
from stemma.runtime.model import load
from stemma.runtime.model.load import assemble, read_checkpoint
from stemma.runtime.model.pull import default_model
from stemma.runtime.model.tiny import byte_tokenizer
from tests.runtime.model.running import all_logits, reference_ops

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
SHARED: dict[str, Any] = {
    "vocab_size": 260, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024, "initializer_range": 0.3,
    "bos_token_id": 258, "eos_token_id": 256, "pad_token_id": 259,
}  # fmt: skip


def save(folder: Path, config: transformers.PreTrainedConfig, **options: Any) -> transformers.PreTrainedModel:
    """A random model with random biases and norms in Hugging Face's form."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if any(part in name for part in ("norm", "bias", "layer_scalar", "router.scale", "per_expert_scale")):
                parameter.normal_(1.0, 0.2)
    model.save_pretrained(folder, **options)
    write_tokenizer(folder)
    return model


def write_tokenizer(folder: Path) -> None:
    files = byte_tokenizer()
    (folder / "tokenizer.json").write_text(json.dumps(files.spec))
    (folder / "tokenizer_config.json").write_text(json.dumps({**files.special, "chat_template": files.chat_template}))


def largest_difference(ours: Any, theirs: Any, ids: list[int]) -> float:
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0]
    found = all_logits(ours, ids)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


def test_logits_depend_on_everything_that_was_loaded(tmp_path: Path) -> None:
    """The comparison above could not fail if the random models said the same whatever their input."""
    save(tmp_path, transformers.LlamaConfig(**SHARED))
    model = load(tmp_path, reference_ops()).model
    first, second = all_logits(model, [1, 2, 3, 4]), all_logits(model, [9, 2, 3, 4])
    assert float((first[-1] - second[-1]).abs().max()) > 0.1


def test_shards_are_joined(tmp_path: Path) -> None:
    theirs = save(tmp_path, transformers.LlamaConfig(**SHARED), max_shard_size="100KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert largest_difference(load(tmp_path, reference_ops()).model, theirs, list(range(50))) < 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files(dtype: torch.dtype, tmp_path: Path) -> None:
    save(tmp_path, transformers.LlamaConfig(**SHARED)).to(dtype).save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert largest_difference(load(tmp_path, reference_ops()).model, theirs, list(range(50))) < 1e-3


def test_the_real_model() -> None:
    """SmolLM2-135M from its GGUF file against transformers' Llama with the same weights, dequantised."""
    checkpoint = read_checkpoint(default_model())
    config = checkpoint.config
    theirs = transformers.LlamaForCausalLM.from_pretrained(
        None,
        config=transformers.LlamaConfig(
            vocab_size=config.vocab_size, hidden_size=config.hidden, intermediate_size=config.intermediate,
            num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads, rms_norm_eps=config.norm_epsilon, tie_word_embeddings=True,
            max_position_embeddings=config.context_length,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope.theta},
        ),
        state_dict={name: torch.from_numpy(dequantize(tensor)) for name, tensor in checkpoint.tensors.items()},
        dtype=torch.float32,
    ).eval()  # fmt: skip
    ours = assemble(checkpoint, reference_ops())
    for text in ("Paris", "The capital of France is", "def add(a, b):\n    return", "1 2 3 4 5 6 " * 50):
        assert largest_difference(ours.model, theirs, ours.tokenizer.encode(text)) < 1e-3
