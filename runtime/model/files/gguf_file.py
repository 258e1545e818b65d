"""A GGUF file as a checkpoint: GGUF's names become Hugging Face's, and what llama.cpp's converter changed is undone.
Packs nothing, computes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.register import check_supported
from stemma.runtime.model.files.embedding import read_gguf_embedding
from stemma.runtime.model.files.generation import read_gguf_generation
from stemma.runtime.model.files.gguf_format import GGUF, open_gguf
from stemma.runtime.model.files.gguf_tokenizer import read_tokenizer
from stemma.runtime.model.files.rope_settings import ROPE_FACTORS, read_gguf_rope
from stemma.runtime.model.files.settings import METADATA_WITHOUT_EFFECT, Settings

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
    tokenizer = read_tokenizer(opened.metadata)
    generation = read_gguf_generation(opened.metadata, tokenizer)
    embedding = read_gguf_embedding(opened.metadata.get(f"{config.family}.pooling_type"))
    return Checkpoint(config, tensors, tokenizer, generation, names, embedding)


def _config(opened: GGUF, name: str) -> ModelConfig:
    values, tensors = opened.metadata, opened.tensors
    family = values.get("general.architecture", "")
    check_supported(family)
    if "token_embd.weight" not in tensors:
        raise ModelFileError("the GGUF file has no tensor token_embd.weight; it holds no whole language model")
    settings = Settings(values, "the GGUF file", f"{family}.")
    num_heads, hidden = settings.number("attention.head_count"), settings.number("embedding_length")
    head_dim = settings.number("attention.key_length", hidden // num_heads)
    if settings.number("attention.value_length", head_dim) != head_dim:
        settings.refuse("attention.value_length", f"values are as long as keys ({head_dim}) in models that are run")
    if not settings.get("attention.causal", True):
        settings.refuse("attention.causal", "tokens would see what comes behind them, and such models write no text")
    whole = settings.number("context_length")
    window = settings.number("attention.sliding_window", whole) if settings.get("attention.sliding_window") else whole
    config = ModelConfig(
        name=values.get("general.name", name),
        family=family,
        num_layers=settings.number("block_count"),
        num_heads=num_heads,
        num_kv_heads=settings.number("attention.head_count_kv", num_heads),
        head_dim=head_dim,
        hidden=hidden,
        intermediate=settings.number("feed_forward_length"),
        vocab_size=tensors["token_embd.weight"].shape[0],
        context_length=min(whole, window),
        norm_epsilon=settings.need("attention.layer_norm_rms_epsilon"),
        rope=read_gguf_rope(settings, tensors, head_dim),
        tied_embeddings="output.weight" not in tensors,
    )
    settings.check_all_used(METADATA_WITHOUT_EFFECT)
    return config


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
