"""Tiny random models of every family with a byte tokenizer, for tests and for trying things out: made in memory in
milliseconds, the same for the same seed. They know nothing and say nothing sensible."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from stemma.kernels.ops import Ops
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.checkpoint import Checkpoint, TokenizerFiles
from stemma.runtime.model.config import GenerationDefaults, ModelConfig, RopeConfig
from stemma.runtime.model.load import LoadedModel, assemble
from stemma.runtime.model.text.byte_alphabet import char_of_byte

SPECIAL = MappingProxyType({"<|end|>": 256, "<|start|>": 257, "<|bos|>": 258, "<|pad|>": 259})
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def tiny(ops: Ops, family: str = "llama", seed: int = 0, vocab_size: int = 260) -> LoadedModel:
    """A model of two layers with four query heads over two KV heads of 16, and 2,048 tokens of context.

    Tokens 0 to 255 are the bytes, then come `SPECIAL`; ids from 260 to `vocab_size` have no token.
    """
    config = tiny_config(family, vocab_size)
    return assemble(Checkpoint(config, tiny_tensors(config, seed), byte_tokenizer(), GenerationDefaults((256,))), ops)


def tiny_config(family: str, vocab_size: int = 260) -> ModelConfig:
    return ModelConfig(
        name=f"tiny-{family}",
        family=family,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        hidden=64,
        intermediate=128,
        vocab_size=vocab_size,
        context_length=2048,
        norm_epsilon=1e-5,
        rope=RopeConfig(10000.0),
        tied_embeddings=False,
    )


def tiny_tensors(config: ModelConfig, seed: int) -> dict[str, StoredWeight]:
    """Random weights, large enough that the next token depends strongly on what came before."""
    rng = np.random.default_rng(seed)

    def random(*shape: int, scale: float = 1.0) -> StoredWeight:
        return StoredWeight("F32", shape, (rng.standard_normal(shape) * scale).astype(np.float32))

    def norm(size: int) -> StoredWeight:
        return StoredWeight("F32", (size,), (1 + 0.1 * rng.standard_normal(size)).astype(np.float32))

    def matrix(rows: int, columns: int) -> StoredWeight:
        return random(rows, columns, scale=1.5 / columns**0.5)

    hidden, inner = config.hidden, config.intermediate
    kv_size = config.num_kv_heads * config.head_dim
    sizes = {"q": config.num_heads * config.head_dim, "k": kv_size, "v": kv_size}
    tensors = {
        "model.embed_tokens.weight": random(config.vocab_size, hidden),
        "model.norm.weight": norm(hidden),
        "lm_head.weight": matrix(config.vocab_size, hidden),
    }
    for layer in range(config.num_layers):
        attention, mlp = f"model.layers.{layer}.self_attn.", f"model.layers.{layer}.mlp."
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = norm(hidden)
        for name, size in sizes.items():
            tensors[f"{attention}{name}_proj.weight"] = matrix(size, hidden)
            if config.family == "qwen2":
                tensors[f"{attention}{name}_proj.bias"] = random(size, scale=0.5)
        if config.family == "qwen3":
            tensors |= {f"{attention}{name}_norm.weight": norm(config.head_dim) for name in "qk"}
        tensors[attention + "o_proj.weight"] = matrix(hidden, sizes["q"])
        tensors[mlp + "gate_proj.weight"] = matrix(inner, hidden)
        tensors[mlp + "up_proj.weight"] = matrix(inner, hidden)
        tensors[mlp + "down_proj.weight"] = matrix(hidden, inner)
    return tensors


def byte_tokenizer() -> TokenizerFiles:
    """Token b is the byte b; four special tokens; a chat template in the ChatML manner."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    vocabulary = {char: byte for byte, char in enumerate(char_of_byte())} | dict(SPECIAL)
    spec = {
        "version": "1.0",
        "added_tokens": [{"id": index, "content": token, **flags} for token, index in SPECIAL.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    special = {"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    return TokenizerFiles(spec, special, adds_bos=False, chat_template=TEMPLATE)
