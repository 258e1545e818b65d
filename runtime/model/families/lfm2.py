"""LFM 2 (Liquid AI 2025): gated short convolutions in most layers, attention in the others; with experts behind the
first layers in some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import MLP, Attention, Experts, Layer, ModelConfig, Norms, ShortConv
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.mixture import TRAINING, first_layers
from stemma.runtime.model.families.reading import read_head_dim, read_mixers, read_sizes
from stemma.runtime.model.families.rope_settings import FULL, read_rope
from stemma.runtime.model.settings import Settings

NORMS = Norms(attention="operator_norm", mlp="ffn_norm", last="model.embedding_norm")
CORRECTION = "feed_forward.gate.e_score_correction_bias"


def read(settings: Settings) -> ModelConfig:
    num_layers, chosen = settings.number("num_hidden_layers"), settings.get("full_attn_idxs")
    if not isinstance(chosen, list | None):
        settings.refuse("full_attn_idxs", "it is no list of layers")
    otherwise = [FULL if chosen is None or layer in chosen else "conv" for layer in range(num_layers)]
    return _read(settings, otherwise, _intermediate(settings))


def _read(settings: Settings, otherwise: list[str], intermediate: int) -> ModelConfig:
    config = read_sizes(settings, read_rope(settings, read_head_dim(settings), theta=1e6), "norm_eps")
    kinds = {"conv": Layer(None, mixer="conv"), FULL: Layer(config.rope)}
    return replace(
        config,
        intermediate=intermediate,
        tied_embeddings=settings.get("tie_embedding", config.tied_embeddings),
        layers=read_mixers(settings, config.num_layers, kinds, otherwise),
        attention=Attention(norms="head", q_norm="q_layernorm", k_norm="k_layernorm", output="out_proj"),
        conv=ShortConv(settings.number("conv_L_cache"), settings.get("conv_bias", False)),
        mlp=MLP(place="feed_forward", gate="w1", up="w3", down="w2"),
        norms=NORMS,
    )


def _intermediate(settings: Settings) -> int:
    """Files say it as it was before gates had a third of it."""
    size = settings.number("block_ff_dim", settings.number("intermediate_size"))
    factor, step = settings.get("block_ffn_dim_multiplier"), settings.number("block_multiple_of")
    if not settings.get("block_auto_adjust_ff_dim", False):
        return size
    size = int(2 * size / 3)
    return size if factor is None else -(-int(factor * size) // step) * step


def read_moe(settings: Settings) -> ModelConfig:
    config = _read(settings, [], settings.number("intermediate_size"))
    if settings.get("expert_gating_func", 2) != 2:
        settings.refuse("expert_gating_func", "scores of experts are sigmoids in models of this type")
    spec = ExpertsSpec(
        settings.number("num_experts_per_tok"), "sigmoid", settings.get("norm_topk_prob", False),
        settings.get("routed_scaling_factor", 1.0),
    )  # fmt: skip
    experts = Experts(
        settings.number("num_experts"), settings.number("moe_intermediate_size"), spec,
        first_layers(settings, "num_dense_layers"), correction=settings.get("use_expert_bias", False),
        place="feed_forward", gate="w1", up="w3", down="w2",
    )  # fmt: skip
    return replace(config, experts=experts)


def by_name(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    """What corrects the scores under the name of other families."""
    return {name.replace("feed_forward.expert_bias", CORRECTION): tensor for name, tensor in tensors.items()}


def undone(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    """The converter stores convolutions without the axis of their one input."""
    if not name.endswith("conv.conv.weight"):
        return tensor
    shape = (tensor.shape[0], 1, tensor.shape[1])
    return replace(tensor, shape=shape, data=tensor.data.reshape(shape))


def told(settings: Settings) -> Mapping[str, Any]:
    """A layer with a convolution has no heads of keys."""
    heads = settings.get("num_key_value_heads")
    if not isinstance(heads, list):
        return {}
    kinds = [FULL if count else "conv" for count in heads]
    return {"layer_types": kinds, "attention.head_count_kv": max(heads)}


SETTINGS = {
    "norm_eps": "attention.layer_norm_rms_epsilon", "conv_L_cache": "shortconv.l_cache", "num_experts": "expert_count",
    "num_dense_layers": "leading_dense_block_count", "routed_scaling_factor": "expert_weights_scale",
}  # fmt: skip
TENSORS = {
    "token_embd_norm": "model.embedding_norm", "attn_norm": "operator_norm", "ffn_norm": "ffn_norm",
    "attn_q_norm": "self_attn.q_layernorm", "attn_k_norm": "self_attn.k_layernorm",
    "attn_output": "self_attn.out_proj", "shortconv.conv.weight": "conv.conv.weight",
    "shortconv.in_proj.weight": "conv.in_proj.weight", "shortconv.out_proj.weight": "conv.out_proj.weight",
    "exp_probs_b.bias": CORRECTION, "ffn_gate_inp": "feed_forward.gate",
    **{f"ffn_{kind}{ending}": f"feed_forward.{place}{name}" for kind, name in
       (("gate", "w1"), ("up", "w3"), ("down", "w2")) for ending, place in (("", ""), ("_exps", "experts."))},
}  # fmt: skip
SAID_BEFORE = frozenset(
    {"block_dim", "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale", "block_use_swiglu",
     "block_use_xavier_init", "conv_dim", "conv_dim_out", "conv_use_xavier_init", "num_heads", "theta", "use_pos_enc"}
)  # fmt: skip
"""Settings of the authors' own program, which other settings say."""
DEFAULTS = {"num_key_value_heads": 8, "norm_eps": 1e-5, "tie_word_embeddings": True, "conv_L_cache": 3}
LFM2 = Family(
    read,
    GGUF("lfm2", SETTINGS, TENSORS, undone, {"block_multiple_of": 1}, told=told),
    defaults={**DEFAULTS, "block_multiple_of": 256, "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": True},
    without_effect=SAID_BEFORE,
    tiny={"layer_types": ["conv", FULL], "rms_norm_eps": None, "block_auto_adjust_ff_dim": False},
)
LFM2_MOE = Family(
    read_moe,
    GGUF("lfm2moe", SETTINGS, TENSORS, undone, {"norm_topk_prob": True, "use_expert_bias": True}, told=told),
    defaults={**DEFAULTS, "moe_intermediate_size": 1792, "num_dense_layers": 2, "num_experts_per_tok": 4,
              "num_experts": 32, "use_expert_bias": True, "norm_topk_prob": True},
    without_effect=TRAINING | SAID_BEFORE,
    tiny={"layer_types": ["conv", FULL], "rms_norm_eps": None, "num_experts": 4, "num_experts_per_tok": 2,
          "moe_intermediate_size": 32, "num_dense_layers": 1},
    folder=by_name,
)  # fmt: skip
