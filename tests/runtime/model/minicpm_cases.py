"""MiniCPM as transformers can run it, which has no class for it: a Llama into whose weights the three scales went (Hu
et al. 2024: of embeddings, of what each part adds, of logits). Random models, with the scales and without."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from tests.runtime.model.family_cases import LONG, SHARED, SHORT

LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": SHORT, "long_factor": LONG,
            "original_max_position_embeddings": 700}  # fmt: skip
CASES: list[dict[str, Any]] = [
    {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 32},
    {"scale_emb": 3, "scale_depth": 0.7, "dim_model_base": 256, "num_hidden_layers": 3},
    {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 32, "rope_parameters": LONGROPE},
    {"scale_emb": 2, "tie_word_embeddings": True},
]
"""By the names of its config.json; what is absent is no scale."""
SCALES = frozenset({"scale_emb", "scale_depth", "dim_model_base"})


def unscaled(index: int) -> transformers.PreTrainedModel:
    """The weights as MiniCPM's files hold them; its own scales are not in them."""
    options = {key: value for key, value in CASES[index].items() if key not in SCALES}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{**SHARED, "vocab_size": 261, **options})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    config.model_type, config.scales = "minicpm", tuple(map(float, scales_of(index)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1.0, 0.2)
    return model


def scales_of(index: int) -> tuple[float, float, float]:
    """Of embeddings, of what each part adds, of logits."""
    case, sizes = CASES[index], {**SHARED, **CASES[index]}
    root = sizes["num_hidden_layers"] ** 0.5
    width = case.get("dim_model_base", sizes["hidden_size"]) / sizes["hidden_size"]
    return case.get("scale_emb", 1.0), case.get("scale_depth", root) / root, width


def logits(index: int, ids: list[int]) -> torch.Tensor:
    """What MiniCPM makes of a text, by a Llama."""
    model = unscaled(index)
    embedding, residual, head = scales_of(index)
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight * head)  # which may have been the embedding
        model.model.embed_tokens.weight *= embedding
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= residual
            layer.mlp.down_proj.weight *= residual
        return model(torch.tensor([ids])).logits[0]
