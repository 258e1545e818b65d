"""Models that also read images, by their text alone, against transformers running the whole model on text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model import load
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.files.text_part import text_config
from tests.runtime.model.family_cases import CONV, DELTA, EXPERT_DELTA, GEMMA4, SHARED
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_hugging_face import write_folder
from tests.runtime.model.test_logits import write_tokenizer

VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": 28, "patch_size": 14}  # fmt: skip
GEMMA = {**SHARED, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 40,
         "query_pre_attn_scalar": 16}  # fmt: skip
OLDER = {"model.language_model.": "language_model.model.", "model.vision_tower.": "vision_tower.",
         "model.multi_modal_projector.": "multi_modal_projector.", "lm_head.": "language_model.lm_head."}  # fmt: skip


def configuration(kind: str, tied: bool) -> transformers.PreTrainedConfig:
    if kind == "gemma3":
        return transformers.Gemma3Config(
            text_config=GEMMA, vision_config={**VISION, "model_type": "siglip_vision_model"}, mm_tokens_per_image=4,
            tie_word_embeddings=tied,
        )  # fmt: skip
    if kind == "gemma4":
        return transformers.Gemma4Config(
            text_config={**SHARED, **GEMMA4, "vocab_size_per_layer_input": 300}, audio_config=None,
            vision_config={**VISION, "model_type": "gemma4_vision", "num_key_value_heads": 2, "head_dim": 16},
            tie_word_embeddings=tied,
        )  # fmt: skip
    if kind in ("qwen3_5", "qwen3_5_moe"):
        own = EXPERT_DELTA if kind == "qwen3_5_moe" else DELTA
        sections = {"mrope_section": [1, 1, 0], "mrope_interleaved": True, "partial_rotary_factor": 0.25}
        rotation = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, **sections}}
        vision = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "patch_size": 14,
                  "out_hidden_size": 64, "num_position_embeddings": 16}  # fmt: skip
        return transformers.CONFIG_MAPPING[kind](
            text_config={**SHARED, **own, **rotation, "tie_word_embeddings": tied}, vision_config=vision,
            tie_word_embeddings=tied,
        )  # fmt: skip
    if kind == "lfm2_vl":
        return transformers.Lfm2VlConfig(
            text_config={**SHARED, **CONV, "model_type": "lfm2", "tie_word_embeddings": tied},
            vision_config={**VISION, "model_type": "siglip2_vision_model", "num_patches": 4}, tie_word_embeddings=tied,
        )  # fmt: skip
    return transformers.Mistral3Config(
        text_config={**SHARED, "model_type": "mistral", "sliding_window": None},
        vision_config={**VISION, "model_type": "pixtral", "head_dim": 16}, tie_word_embeddings=tied,
    )  # fmt: skip


@pytest.mark.parametrize("names", ["newer", "older"])
@pytest.mark.parametrize(
    ("kind", "tied"), [("gemma3", True), ("gemma4", True), ("mistral3", True), ("mistral3", False), ("qwen3_5", False),
                       ("qwen3_5", True), ("qwen3_5_moe", False), ("lfm2_vl", True)]
)  # fmt: skip
def test_text_alone(kind: str, tied: bool, names: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(configuration(kind, tied)).eval()
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    if names == "older":
        tensors = {_older(name): tensor for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    ids = np.random.default_rng(3).integers(12, 250, 120).tolist()
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0]
    ours: Any = load(tmp_path, reference_ops()).model
    assert float(want.std()) > 0.01
    assert float((all_logits(ours, ids) - want).abs().max()) < 1e-3


def _older(name: str) -> str:
    for new, old in OLDER.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def test_sizes_that_a_published_folder_leaves_out() -> None:
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}  # fmt: skip
    raw = {"model_type": "gemma3", "text_config": text, "eos_token_id": [1, 106]}
    config, theirs = read_config(text_config(raw), "x"), transformers.Gemma3Config(**raw).text_config
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 4, 256)
    assert (config.vocab_size, config.context_length) == (theirs.vocab_size, theirs.max_position_embeddings)
    assert config.tied_embeddings
    kinds = ["sliding_attention" if layer.window == 1024 else "full_attention" for layer in config.layers]
    assert kinds == theirs.layer_types
    full = config.layers[5].rope
    assert full is not None
    assert (full.theta, full.factors[0]) == (1e6, 8.0)


def test_other_models_that_see_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="llava"):
        load(write_folder(tmp_path, model_type="llava", text_config={"model_type": "llama"}), reference_ops())
