"""gpt-oss (OpenAI 2025): a window in every other layer, sinks of attention, biases everywhere, and experts with a
clamped gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.weights import FORMATS, StoredWeight
from stemma.runtime.model.config import Attention, Experts, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.mixture import TRAINING
from stemma.runtime.model.families.reading import read_head_dim, read_layers, read_sizes, slides_every_other
from stemma.runtime.model.families.rope_settings import read_rope
from stemma.runtime.model.settings import Settings

YARN = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        "original_max_position_embeddings": 4096}  # fmt: skip
CLAMPED = {"swiglu_alpha": 1.702, "swiglu_limit": 7.0}


def read(settings: Settings) -> ModelConfig:
    config = read_sizes(settings, read_rope(settings, read_head_dim(settings), theta=150000.0))
    for name, value in CLAMPED.items():
        if settings.get(name, value) != value:
            settings.refuse(name, f"a gate that is clamped otherwise than by {value} is not supported")
    if settings.get("hidden_act", "silu") != "silu":
        settings.refuse("hidden_act", "gates of this type of model are clamped SiLUs")
    bias = settings.get("attention_bias", True)
    spec = ExpertsSpec(
        settings.number("num_experts_per_tok"), "softmax of the chosen", activation="clamped_silu"
    )  # fmt: skip
    return replace(
        config,
        layers=read_layers(settings, config.rope, slides_every_other(settings)),
        attention=Attention(bias=bias, output_bias=bias, sinks=True),
        experts=Experts(
            settings.number("num_local_experts"),
            settings.get("moe_intermediate_size", config.intermediate),
            spec,
            bias=True,
            router="router",
        ),
    )


def by_name(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    """Matrices with outputs first, as those in MXFP4 are already, and gates and ups apart, which alternate."""
    found = {}
    for name, tensor in tensors.items():
        place, _, rest = name.partition("mlp.experts.")
        part, kind = rest.removesuffix("_bias"), "bias" if rest.endswith("_bias") else "weight"
        if not rest or "_proj" not in rest or rest.endswith((".weight", ".bias")):
            found[name] = tensor
            continue
        turns = kind == "weight" and tensor.type not in FORMATS
        data = tensor.data.swapaxes(1, 2) if turns else tensor.data
        inputs = tensor.shape[-1:] if tensor.type in FORMATS else data.shape[2:]
        pieces = {"gate_proj": data[:, 0::2], "up_proj": data[:, 1::2]} if part == "gate_up_proj" else {part: data}
        for own, values in pieces.items():
            shape = (*values.shape[:2], *inputs)
            found[f"{place}mlp.experts.{own}.{kind}"] = replace(tensor, shape=shape, data=values)
    return found


GPT_OSS = Family(
    read,
    GGUF("gpt-oss", {"num_local_experts": "expert_count"},
         {"ffn_gate_inp": "mlp.router", "attn_sinks.weight": "self_attn.sinks",
          "post_attention_norm": "post_attention_layernorm"}),
    defaults={"num_key_value_heads": 8, "head_dim": 64, "rms_norm_eps": 1e-5, "sliding_window": 128,
              "rope_parameters": YARN, "num_experts_per_tok": 4, "num_local_experts": 128},
    without_effect=TRAINING | {"initial_context_length", "experts_per_token"},
    tiny={"num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": {"rope_type": "default"}},
    folder=by_name,
)  # fmt: skip
