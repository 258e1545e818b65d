"""An adapter as a GGUF file, as llama.cpp's convert_lora_to_gguf.py writes it: `<tensor>.lora_a` and `.lora_b`, and one
alpha."""

from __future__ import annotations

from pathlib import Path

from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.gguf_config import hugging_face_tensors
from stemma.runtime.model.files.adapters.merge import Adapter, Change
from stemma.runtime.model.files.gguf_format import open_gguf

DOWN, UP = ".lora_a", ".lora_b"


def read_gguf_adapter(path: Path, config: ModelConfig) -> Adapter:
    """config: of the model that it changes, whose rows B's follow. Raises ModelFileError or UnsupportedModel."""
    metadata, tensors = open_gguf(path)
    kind = metadata.get("adapter.type") if metadata.get("general.type") == "adapter" else None
    if kind != "lora":
        raise UnsupportedModel(f"{path} is no adapter of type lora (general.type, adapter.type); give one as adapter")
    if "adapter.alora.invocation_tokens" in metadata:
        raise UnsupportedModel(f"{path} sets 'adapter.alora.invocation_tokens': it works behind these tokens only")
    names = [name.removesuffix(UP) for name in tensors if name.endswith(UP)]
    if sorted(tensors) != sorted(name + ending for name in names for ending in (DOWN, UP)) or not names:
        raise ModelFileError(f"{path} holds other tensors than pairs of .lora_a and .lora_b; convert it again")
    if "token_embd.weight" in names:
        raise UnsupportedModel(f"{path} changes 'token_embd.weight', which is not merged; only linear modules are")
    ups = {name: _matrix(tensors[name + UP]) for name in names}
    changes = {}
    undone, file_names = hugging_face_tensors(config, ups)
    for name, up in undone.items():
        down = dequantize(tensors[file_names[name] + DOWN])
        rank = len(down)
        alpha = float(metadata.get("adapter.lora.alpha", 0.0)) or float(rank)  # without one, llama.cpp scales nothing
        changes[name] = Change(down, dequantize(up), alpha / rank)
    return Adapter(str(path), changes, {})


def _matrix(up: StoredWeight) -> StoredWeight:
    return StoredWeight("F32", up.shape, dequantize(up))
