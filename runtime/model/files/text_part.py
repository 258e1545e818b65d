"""The text part of a folder whose model also reads images: a decoder like any other, with a configuration of its own
inside the whole one and names of its own before its tensors'. Images are not read; text alone is computed as in the
whole model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from stemma.kernels.weights import StoredWeight

SEEING = MappingProxyType(
    {"gemma3": True, "gemma4": True, "mistral3": True, "qwen3_5": False, "qwen3_5_moe": False, "lfm2_vl": True}
)
"""Hugging Face's `model_type` of models whose text is computed by itself, because an image changes nothing but the
embeddings and the positions of tokens from its own on; and whether embeddings are tied where no file says it."""
TEXT = {"language_model.model.": "model.", "model.language_model.": "model.", "language_model.lm_head.": "lm_head."}
"""Prefixes of the text part, in files of older and newer transformers, and what they are by themselves."""
IMAGES = tuple(
    f"{before}{part}."
    for before in ("", "model.")
    for part in ("vision_tower", "multi_modal_projector", "visual", "audio_tower", "embed_vision", "embed_audio")
)
SHARED = ("eos_token_id", "tie_word_embeddings", "quantization_config")

log = logging.getLogger("stemma.model")


def text_config(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the text part, with what the whole one says for it; another model's as it is."""
    if raw.get("model_type") not in SEEING or not isinstance(raw.get("text_config"), Mapping):
        return raw
    log.warning("%s reads images too; here it reads text alone", raw["model_type"])
    said = {name: raw[name] for name in SHARED if raw.get(name) is not None}
    return {"tie_word_embeddings": SEEING[raw["model_type"]], **raw["text_config"], **said}


def text_tensors(raw: Mapping[str, Any], tensors: Mapping[str, StoredWeight]) -> dict[str, StoredWeight]:
    """The tensors of the text part, under a text model's names; another model's as they are. raw: the whole model's."""
    if raw.get("model_type") not in SEEING:
        return dict(tensors)
    return {_own_name(name): tensor for name, tensor in tensors.items() if not name.startswith(IMAGES)}


def _own_name(name: str) -> str:
    for before, own in TEXT.items():
        if name.startswith(before):
            return own + name.removeprefix(before)
    return name
