"""A GGUF file as a checkpoint: GGUF's names become Hugging Face's, and what llama.cpp's converter changed is undone.
Packs nothing, computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from stemma.kernels.weights import StoredWeight, dequantize, is_finite
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults, ModelConfig, RopeConfig
from stemma.runtime.model.families.register import check_supported
from stemma.runtime.model.families.rope import linear_factors
from stemma.runtime.model.files.gguf_format import GGUF, open_gguf
from stemma.runtime.model.files.gguf_tokenizer import read_tokenizer

WHOLE_NAMES = MappingProxyType(
    {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
     "output.weight": "lm_head.weight"}
)  # fmt: skip
BLOCK_NAMES = MappingProxyType(
    {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
)
ROPE_FACTORS = "rope_freqs.weight"
END_OF_TURN = ("<|eot_id|>", "<|im_end|>", "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>", "</s>")


def read_gguf(path: Path) -> Checkpoint:
    """Read a file. Raises ModelFileError if it is damaged, UnsupportedModel if its model is not one that is run."""
    opened = open_gguf(path)
    config = _config(opened, path.stem)
    tensors = {
        _hugging_face_name(name): tensor for name, tensor in opened.tensors.items() if name != ROPE_FACTORS
    }  # fmt: skip
    if config.family == "llama":
        tensors = {name: _unpermuted(name, tensor, config) for name, tensor in tensors.items()}
    names = {_hugging_face_name(name): name for name in opened.tensors}
    return Checkpoint(config, tensors, read_tokenizer(opened.metadata), _generation(opened.metadata), names)


def _config(opened: GGUF, name: str) -> ModelConfig:
    values, tensors = opened.metadata, opened.tensors
    family = values.get("general.architecture", "")
    check_supported(family)

    def need(key: str) -> Any:
        if f"{family}.{key}" not in values:
            raise ModelFileError(f"the GGUF file has no value {family}.{key}; convert the model again")
        return values[f"{family}.{key}"]

    num_heads, hidden = need("attention.head_count"), need("embedding_length")
    head_dim = values.get(f"{family}.attention.key_length", hidden // num_heads)
    window = values.get(f"{family}.attention.sliding_window") or need("context_length")
    if "token_embd.weight" not in tensors:
        raise ModelFileError("the GGUF file has no tensor token_embd.weight; it holds no whole language model")
    return ModelConfig(
        name=values.get("general.name", name),
        family=family,
        num_layers=need("block_count"),
        num_heads=num_heads,
        num_kv_heads=values.get(f"{family}.attention.head_count_kv", num_heads),
        head_dim=head_dim,
        hidden=hidden,
        intermediate=need("feed_forward_length"),
        vocab_size=tensors["token_embd.weight"].shape[0],
        context_length=min(need("context_length"), window),
        norm_epsilon=need("attention.layer_norm_rms_epsilon"),
        rope=_rope(values, tensors, family, head_dim),
        tied_embeddings="output.weight" not in tensors,
    )


def _rope(
    values: Mapping[str, Any], tensors: Mapping[str, StoredWeight], family: str, head_dim: int
) -> RopeConfig:  # fmt: skip
    if values.get(f"{family}.rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedModel("models that rotate only a part of each head are not supported")
    theta = values.get(f"{family}.rope.freq_base", 10000.0)
    if ROPE_FACTORS in tensors:
        if not is_finite(tensors[ROPE_FACTORS]):
            raise ModelFileError(f"tensor {ROPE_FACTORS!r} has numbers that are NaN or infinite; fetch the model again")
        return RopeConfig(theta, tuple(dequantize(tensors[ROPE_FACTORS]).tolist()))
    scaling = values.get(f"{family}.rope.scaling.type", "none")
    factor = values.get(f"{family}.rope.scaling.factor", 1.0)
    if scaling == "none" or factor == 1.0:
        return RopeConfig(theta)
    if scaling != "linear":
        raise UnsupportedModel(f"rope scaling {scaling!r} is not supported; supported: linear, llama3")
    return RopeConfig(theta, linear_factors(head_dim, factor))


def _hugging_face_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`; a name that is not known stays."""
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) == 4 and parts[2] in BLOCK_NAMES:
        return f"model.layers.{parts[1]}.{BLOCK_NAMES[parts[2]]}.{parts[3]}"
    return WHOLE_NAMES.get(name, name)


def _unpermuted(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    """The rows of Q and K in the order of rotary halves; llama.cpp's converter interleaves them in 'llama' files:

    in the file  0 h 1 h+1 2 h+2 ...      here  0 1 2 ... h h+1 h+2 ...      h = head_dim / 2, in each head

    Whole rows move, so quantised ones move as they are.
    """
    num_heads = {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}.get(name.split(".")[-2])
    if num_heads is None or "self_attn" not in name:
        return tensor
    rows = np.arange(tensor.shape[0]).reshape(num_heads, config.head_dim // 2, 2).swapaxes(1, 2).reshape(-1)
    return replace(tensor, data=tensor.data[rows])


def _generation(values: Mapping[str, Any]) -> GenerationDefaults:
    """The end tokens the file names, and its control tokens that are known to end a turn."""
    keys = ("eos_token_id", "eot_token_id", "eom_token_id")
    named = {values[f"tokenizer.ggml.{key}"] for key in keys if f"tokenizer.ggml.{key}" in values}
    tokens, types = values["tokenizer.ggml.tokens"], values.get("tokenizer.ggml.token_type", [])
    known = {
        i for i, (token, kind) in enumerate(zip(tokens, types, strict=False)) if kind == 3 and token in END_OF_TURN
    }
    return GenerationDefaults(eos_ids=tuple(sorted(named | known)))
