"""Writes transformers' models as GGUF files, the way llama.cpp's converter does (convert_hf_to_gguf.py): its names,
its order of the rows of Q and K, its divisors of rotary frequencies. An independent statement of what we undo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
import transformers

from stemma.kernels.weights import FORMATS, StoredWeight, dequantize
from stemma.runtime.model.tiny import SPECIAL, byte_tokenizer
from tests.kernels.stored import stored

Array = npt.NDArray[Any]
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip

ADD = {
    str: gguf.GGUFWriter.add_string, float: gguf.GGUFWriter.add_float32, int: gguf.GGUFWriter.add_uint32,
    bool: gguf.GGUFWriter.add_bool, list: gguf.GGUFWriter.add_array,
}  # fmt: skip


def write_gguf(
    path: Path, model: transformers.PreTrainedModel, kind: str = "F32", scalars: Mapping[str, Any] | None = None,
    rope_factors: Array | None = None, tool_template: str | None = None,
) -> None:  # fmt: skip
    """Save a model with its matrices stored as `kind`, and change the model's weights to what was stored.

    scalars: more metadata, by key without the architecture.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, config.model_type)
    _write_config(writer, config)
    for key, value in (scalars or {}).items():
        ADD[type(value)](writer, f"{config.model_type}.{key}", value)
    write_byte_tokenizer(writer)
    if tool_template is not None:
        writer.add_string("tokenizer.chat_template.tool_use", tool_template)
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", rope_factors.astype(np.float32))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _write_tensor(writer, config, name, parameter, kind if parameter.ndim == 2 else "F32")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_config(writer: gguf.GGUFWriter, config: transformers.PreTrainedConfig) -> None:
    writer.add_name("random")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def write_byte_tokenizer(writer: gguf.GGUFWriter) -> None:
    files = byte_tokenizer()
    vocabulary = [*sorted(files.spec["model"]["vocab"], key=files.spec["model"]["vocab"].__getitem__), "th"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in vocabulary])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(SPECIAL["<|bos|>"])
    writer.add_eos_token_id(SPECIAL["<|end|>"])
    writer.add_chat_template(files.chat_template)


def _write_tensor(
    writer: gguf.GGUFWriter, config: transformers.PreTrainedConfig, name: str, parameter: torch.Tensor, kind: str
) -> None:  # fmt: skip
    stored = stored_rows(parameter.numpy(), kind)
    parameter.copy_(torch.from_numpy(values_of(stored, kind).reshape(parameter.shape)))
    if config.model_type == "llama" and name.split(".")[-2] in ("q_proj", "k_proj"):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        stored = interleaved(stored, heads)
    type_of = gguf.GGMLQuantizationType[kind]
    writer.add_tensor(_gguf_name(name), stored, raw_dtype=type_of)


def interleaved(rows: Array, heads: int) -> Array:
    """`permute` of llama.cpp's converter."""
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def stored_rows(values: Array, kind: str) -> Array:
    """Rows in a storage type; random blocks with small scales, where the gguf library cannot make it."""
    if kind not in FORMATS or (FORMATS[kind].num_inputs == 32 and kind not in ("IQ4_NL", "MXFP4")):
        return gguf.quants.quantize(np.ascontiguousarray(values), gguf.GGMLQuantizationType[kind])
    size = {"IQ4_NL": 0.001, "IQ4_XS": 5e-5, "Q6_K": 0.0001, "TQ1_0": 0.1, "TQ2_0": 0.1, "Q1_0": 0.1}.get(kind, 0.003)
    return stored(kind, (len(values), values.size // len(values)), len(values), size).data


def values_of(stored: Array, kind: str) -> npt.NDArray[np.float32]:
    if kind == "Q1_0":  # which the gguf library does not read
        return dequantize(StoredWeight(kind, (len(stored), stored.shape[1] // 18 * 128), stored))
    return gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[kind]).astype(np.float32)


def _gguf_name(name: str) -> str:
    parts, ending = name.rsplit(".", 1)
    if not parts.startswith("model.layers."):
        return f"{NAMES[parts]}.{ending}"
    _, _, layer, inner = parts.split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.{ending}"
