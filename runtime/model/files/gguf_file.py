"""A GGUF file as a checkpoint. Its metadata and the names of its tensors are read by its family; packs nothing,
computes nothing."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.families.gguf_config import hugging_face_tensors, read_gguf_config
from stemma.runtime.model.files.embedding import read_gguf_embedding
from stemma.runtime.model.files.generation import read_gguf_generation
from stemma.runtime.model.files.gguf_format import open_gguf
from stemma.runtime.model.files.gguf_tokenizer import read_tokenizer

INSTEAD = MappingProxyType(
    {
        "adapter": ": give it as an adapter of the model it was made for",
        "mmproj": ", what lets a model see or hear: give the model's own file",
        "imatrix": ", what a quantiser reads: give the model's own file",
    }
)
"""What to do with files that are something else."""


def read_gguf(path: Path, context_length: int | None = None) -> Checkpoint:
    """Read a file.

    context_length: asked for. Raises ModelFileError if it is damaged, UnsupportedModel if its model is not one
    that is run.
    """
    opened = open_gguf(path)
    kind = opened.metadata.get("general.type", "model")
    if kind != "model":
        raise UnsupportedModel(f"{path} is no model but of type {kind!r}{INSTEAD.get(kind, '')}")
    config = read_gguf_config(opened.metadata, opened.tensors, path.stem, context_length)
    tensors, names = hugging_face_tensors(config, opened.tensors)
    tokenizer = read_tokenizer(opened.metadata)
    generation = read_gguf_generation(opened.metadata, tokenizer)
    pooling = opened.metadata.get(f"{opened.metadata['general.architecture']}.pooling_type")
    return Checkpoint(config, tensors, tokenizer, generation, names, read_gguf_embedding(pooling))
