"""Every family as a GGUF file that is written as llama.cpp's converter writes it, against transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from stemma.runtime.errors import StemmaError
from stemma.runtime.model import load
from stemma.runtime.model.families.gguf_config import share_of
from stemma.runtime.model.families.register import FAMILIES
from tests.runtime.model.family_cases import CASES, SHARED
from tests.runtime.model.gguf_families import latent, metadata_of, tensors_of, write_family
from tests.runtime.model.running import all_logits, reference_ops

IDS = list(range(3, 120))
UNSAID = {
    "llama": (8, 11, 12), "mistral": (1,), "qwen2": (2,), "qwen3": (4,), "arcee": (3,), "cohere2": (1, 4),
    "exaone4": (3,), "gemma": (1, 3), "gemma2": (5, 7), "gemma3_text": (1, 4),
    "gemma4_text": (8,),
    "ministral3": (2,), "qwen2_moe": (1, 2, 3, 5), "qwen3_moe": (0, 2, 3), "mixtral": (2,), "olmoe": (2,),
    "deepseek_v2": (3,), "deepseek_v3": (1, 2, 3), "minicpm3": (1, 2), "glm4_moe": (3,),
    "mamba2": (3, 6), "granitemoehybrid": (5,), "falcon_h1": (1, 3, 5, 6), "nemotron_h": (0, 2, 3, 5),
    "gpt_oss": (1,), "smollm3": (1, 2, 3), "starcoder2": (2,),
    "qwen3_next": (1, 2, 6), "lfm2": (2,), "lfm2_moe": (1, 2, 3, 4),
}  # fmt: skip
"""Cases that the converter has no keys for: llama.cpp knows such windows and activations by the model's name."""
ALL = [(family, index) for family in CASES if FAMILIES[family].gguf for index in range(len(CASES[family]))
       if index not in UNSAID.get(family, ())]  # fmt: skip
ALIKE = {"gemma2": {"query_pre_attn_scalar": 16, "layer_types": ["sliding_attention", "full_attention"]},
         "gemma3_text": {"query_pre_attn_scalar": 16}, "gemma4_text": {"vocab_size_per_layer_input": 261},
         "minicpm3": {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_model(family: str, index: int) -> transformers.PreTrainedModel:
    options = {**SHARED, "vocab_size": 261, **CASES[family][index], **ALIKE.get(family, {})}
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(transformers.CONFIG_MAPPING[family](**options)).eval()
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if any(part in name for part in ("norm", "bias", "layer_scalar", "router.scale", "per_expert_scale")):
                parameter.normal_(1.0, 0.2)
    return model


@pytest.mark.parametrize(("family", "index"), ALL)
def test_logits_are_those_of_transformers(family: str, index: int, tmp_path: Path) -> None:
    theirs = random_model(family, index)
    write_family(tmp_path / "model.gguf", theirs)
    ours = load(tmp_path / "model.gguf", reference_ops())
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    assert float((all_logits(ours.model, IDS) - expected).abs().max()) < 1e-3


def test_an_older_conversion_of_latents(tmp_path: Path) -> None:
    """Of before keys and values were apart: what makes them is one matrix, and sizes are those of a head. Only that
    scores are corrected says that they are sigmoids."""
    theirs = random_model("deepseek_v3", 0)
    newer = {"attention.key_length_mla", "attention.value_length_mla", "expert_gating_func"}
    said = {key: value for key, value in metadata_of(theirs.config).items() if key not in newer} | latent(theirs.config)
    tensors = tensors_of(theirs)
    for name in [name for name in tensors if ".k_b_proj" in name]:
        keys, values = tensors.pop(name).swapaxes(1, 2), tensors.pop(name.replace("k_b", "v_b"))
        both = np.concatenate((keys, values), axis=1)
        tensors[name.replace("k_b", "kv_b")] = both.reshape(-1, both.shape[-1])
    write_family(tmp_path / "model.gguf", theirs, said | {"attention.head_count_kv": 4}, tensors)
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    found = load(tmp_path / "model.gguf", reference_ops())
    assert found.config.family == "deepseek_v3"
    assert float((all_logits(found.model, IDS) - expected).abs().max()) < 1e-3


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "scores": ("deepseek_v2", {"expert_gating_func": 3}, "scoring_func"),
    "renormalised": ("deepseek_v2", {"expert_weights_norm": True}, "expert_weights_norm"),
    "YaRN that does not say its slope": (
        "deepseek_v3", {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, "yarn_log_multiplier"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_file_of_latents_means_otherwise_is_refused(case: str, tmp_path: Path) -> None:
    family, more, match = REFUSED[case]
    theirs = random_model(family, 0)
    write_family(tmp_path / "model.gguf", theirs, metadata_of(theirs.config) | more)
    with pytest.raises(StemmaError, match=match):
        load(tmp_path / "model.gguf", reference_ops())


def test_the_share_of_a_head_that_is_rotated_comes_to_its_dimensions():
    pairs = [(rotated, head_dim) for head_dim in range(2, 513) for rotated in range(1, head_dim + 1)]
    assert all(int(head_dim * share_of(rotated, head_dim)) == rotated for rotated, head_dim in pairs)
    assert any(int(head_dim * (rotated / head_dim)) != rotated for rotated, head_dim in pairs)  # it is not the quotient
