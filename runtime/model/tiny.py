"""Tiny random models of every family with a byte tokenizer, for tests and for trying things out: made in memory in
milliseconds, the same for the same seed. They know nothing and say nothing sensible."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import torch

from stemma.kernels.ops import Ops
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.checkpoint import Checkpoint, TokenizerFiles
from stemma.runtime.model.config import GenerationDefaults, ModelConfig
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.families.register import find_family
from stemma.runtime.model.load import LoadedModel, assemble
from stemma.runtime.model.parts.decoder import Decoder
from stemma.runtime.model.text.building import added_token
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
    """What the family makes of a config.json of such sizes that says no more than it must."""
    sizes = {
        "model_type": family, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "hidden_size": 64, "intermediate_size": 128, "vocab_size": vocab_size,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    }  # fmt: skip
    return read_config({**sizes, **find_family(family).tiny}, f"tiny-{family}")


def tiny_tensors(config: ModelConfig, seed: int) -> dict[str, StoredWeight]:
    """Random weights, large enough that the next token depends strongly on what came before."""
    made = RandomTensors(seed)
    Decoder(config, made, ReferenceOps(torch.device("cpu")))
    return made.tensors


class RandomTensors:
    """Makes up each tensor that a network asks for, in the order in which it asks."""

    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, StoredWeight] = {}
        self._rng = np.random.default_rng(seed)

    def has(self, name: str) -> bool:
        """Those that were asked for; files here hold each matrix by itself."""
        return name in self.tensors

    def take(self, name: str, *shape: int) -> StoredWeight:
        if name not in self.tensors:
            values = self._rng.standard_normal(shape)
            if "norm" in name and not name.endswith(".bias"):
                values = 1 + 0.1 * values
            elif len(shape) == 1:
                values *= 0.5
            elif "embed" not in name:
                values *= 1.5 / shape[-1] ** 0.5
            self.tensors[name] = StoredWeight("F32", shape, values.astype(np.float32))
        return self.tensors[name]


def byte_tokenizer(*more: str) -> TokenizerFiles:
    """Token b is the byte b; four special tokens, and more from 260 on; a chat template in the ChatML manner."""
    specials = {**SPECIAL, **{text: 260 + at for at, text in enumerate(more)}}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    vocabulary = {char: byte for byte, char in enumerate(char_of_byte())} | specials
    spec = {
        "version": "1.0",
        "added_tokens": [added_token(index, token, special=True) for token, index in specials.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    special = {"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    return TokenizerFiles(spec, special, adds_bos=False, chat_template=TEMPLATE)
