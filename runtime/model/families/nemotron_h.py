"""Nemotron-H and Nemotron 3 (NVIDIA 2025): each layer is one thing alone, Mamba-2, attention without a rotation, an MLP
of squared ReLUs, or experts like it.

Time steps are held within `time_step_limit`, as in its authors' code and in llama.cpp. transformers 5.24 does not read
it: it holds those of a prompt, and not those of an answer, above `time_step_min`, so its numbers depend on the
length of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import MLP, Attention, Experts, Layer, Mamba, ModelConfig, Norms, RopeConfig
from stemma.runtime.model.families.family import GGUF, Family, Values
from stemma.runtime.model.families.llama import unpermuted
from stemma.runtime.model.families.mixture import TRAINING
from stemma.runtime.model.families.reading import read_activation, read_sizes
from stemma.runtime.model.families.rope_settings import Rotation
from stemma.runtime.model.families.state_space import (
    INITIAL,
    check_activation,
    read_kinds,
    read_scan,
    renamed,
    ssm_tensors,
    undone,
)
from stemma.runtime.model.settings import Settings

MLP_ALONE = Layer(None, mixer="none")
LAYERS = {"mamba": Layer(None, mixer="mamba", mlp=False), "attention": Layer(None, mlp=False), "mlp": MLP_ALONE,
          "moe": MLP_ALONE}  # fmt: skip
PATTERN = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
OF_EXPERTS = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
              "moe_shared_expert_intermediate_size", "moe_latent_size", "norm_topk_prob", "routed_scaling_factor",
              "n_group", "topk_group")  # fmt: skip


def read(settings: Settings) -> ModelConfig:
    kinds = read_kinds_of_parts(settings)
    context = settings.number("max_position_embeddings")
    head_dim = settings.number("head_dim", settings.number("attention_head_dim", 128))
    config = read_sizes(settings, Rotation(RopeConfig(10000.0), head_dim, context), "layer_norm_epsilon", len(kinds))
    bias, mlp_bias = settings.get("attention_bias", False), settings.get("mlp_bias", False)
    config = replace(
        config,
        head_dim=head_dim,
        layers=tuple(LAYERS[kind] for kind in kinds),
        attention=Attention(bias=bias, output_bias=settings.get("output_bias", bias), place="mixer"),
        mlp=MLP(read_activation(settings, "relu2", "mlp_hidden_act"), mlp_bias, "mixer", gate=None),
        norms=Norms(attention="norm", mlp="norm", last="model.norm_f"),
        mamba=read_mamba(settings),
        experts=read_experts(settings, kinds) if "moe" in kinds else None,
    )
    for name in OF_EXPERTS:
        settings.get(name)  # without experts they are without effect
    return config


def read_kinds_of_parts(settings: Settings) -> list[str]:
    """A list, or letters in the files of before transformers 5. How many there are is how many layers there are."""
    pattern = [PATTERN.get(letter, letter) for letter in settings.get("hybrid_override_pattern", "")]
    named = settings.get("layers_block_type") or settings.get("layer_types") or pattern
    settings.get("num_hidden_layers")
    return read_kinds(settings, LAYERS, named or ["mamba", "moe", "attention", "mlp"])


def read_mamba(settings: Settings) -> Mamba:
    check_activation(settings, "mamba_hidden_act")
    inner = settings.number("mamba_num_heads") * settings.number("mamba_head_dim")
    bias, conv_bias = settings.get("use_bias", False), settings.get("use_conv_bias", True)
    scan = read_scan(settings, inner, "mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size")
    return Mamba(scan, settings.number("conv_kernel", 4), bias, conv_bias, bias)


def read_experts(settings: Settings, kinds: list[str]) -> Experts:
    if settings.get("moe_latent_size"):
        settings.refuse("moe_latent_size", "experts that read less than the router does are not supported")
    if settings.get("mlp_bias", False):
        settings.refuse("mlp_bias", "an expert that all tokens share with a bias is not supported")
    spec = ExpertsSpec(
        settings.number("num_experts_per_tok"), "sigmoid", renormalise=settings.is_on("norm_topk_prob", True),
        scaling=settings.get("routed_scaling_factor", 1.0), groups=settings.number("n_group", 1),
        top_groups=settings.number("topk_group", 1), group_score="two best",
        activation=read_activation(settings, "relu2", "mlp_hidden_act"), gated=False,
    )  # fmt: skip
    return Experts(
        settings.number("n_routed_experts"), settings.number("moe_intermediate_size"), spec,
        frozenset(layer for layer, kind in enumerate(kinds) if kind != "moe"), correction=True, place="mixer",
        gate=None, shared="shared_experts",
        shared_intermediate=settings.number("moe_shared_expert_intermediate_size"),
    )  # fmt: skip


def without_guesses(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    """Layers that guess further tokens are not run."""
    return {name: tensor for name, tensor in renamed(tensors, config).items() if not name.startswith("mtp.")}


def told(settings: Settings) -> Values:
    """Layers with heads of keys are attention, those with a size of an MLP are one, or experts, and others Mamba-2. A
    layer that guesses further tokens stands behind them."""
    layers = settings.number("block_count") - settings.get("nextn_predict_layers", 0)
    kv_heads, sizes = (settings.need(name) for name in ("attention.head_count_kv", "feed_forward_length"))
    with_size = "moe" if settings.get("n_routed_experts") else "mlp"
    of_layers = list(zip(kv_heads, sizes, strict=True))[:layers]
    kinds = ["attention" if heads else with_size if size else "mamba" for heads, size in of_layers]
    epsilon = settings.get("attention.layer_norm_rms_epsilon", settings.get("attention.layer_norm_epsilon"))
    return {
        "attention.head_count_kv": max(kv_heads), "feed_forward_length": max(sizes), "layers_block_type": kinds,
        "mamba_head_dim": settings.number("ssm.inner_size") // settings.number("mamba_num_heads"),
        "attention.layer_norm_rms_epsilon": epsilon,
    }  # fmt: skip


def back(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    return undone(name, unpermuted(name, tensor, config), config)


SETTINGS = {
    "mamba_num_heads": "ssm.time_step_rank", "n_groups": "ssm.group_count", "ssm_state_size": "ssm.state_size",
    "conv_kernel": "ssm.conv_kernel", "layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
    "n_routed_experts": "expert_count",
    "moe_shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "routed_scaling_factor": "expert_weights_scale", "n_group": "expert_group_count",
    "topk_group": "expert_group_used_count",
}  # fmt: skip
TENSORS = {
    **ssm_tensors("mixer"), "attn_norm": "norm", "output_norm": "model.norm_f", "attn_q": "mixer.q_proj",
    "attn_k": "mixer.k_proj", "attn_v": "mixer.v_proj", "attn_output": "mixer.o_proj", "ffn_up": "mixer.up_proj",
    "ffn_down": "mixer.down_proj", "ffn_gate_inp": "mixer.gate", "ffn_up_exps": "mixer.experts.up_proj",
    "ffn_down_exps": "mixer.experts.down_proj", "ffn_up_shexp": "mixer.shared_experts.up_proj",
    "ffn_down_shexp": "mixer.shared_experts.down_proj",
    "exp_probs_b.bias": "mixer.gate.e_score_correction_bias",
}  # fmt: skip
NEMOTRON_H = Family(
    read,
    GGUF("nemotron_h", SETTINGS, TENSORS, back, told=told, also=frozenset({"nemotron_h_moe"}),
         without_effect=frozenset({"expert_shared_count"})),
    defaults={"num_key_value_heads": 8, "max_position_embeddings": 4096, "intermediate_size": 21504,
              "ssm_state_size": 128, "mamba_num_heads": 128, "mamba_head_dim": 64, "n_groups": 8, "n_routed_experts": 8,
              "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688, "num_experts_per_tok": 2,
              "layer_norm_epsilon": 1e-5},
    without_effect=INITIAL | TRAINING | {"expand", "mamba_proj_bias", "moe_shared_expert_overlap", "rms_norm_eps",
                                         "n_shared_experts", "mtp_layers_block_type", "mtp_hybrid_override_pattern",
                                         "norm_eps", "partial_rotary_factor", "rope_theta"},
    tiny={"layers_block_type": ["mamba", "attention", "mlp"], "mamba_num_heads": 8, "mamba_head_dim": 16, "n_groups": 2,
          "ssm_state_size": 16},
    folder=without_guesses,
)  # fmt: skip
