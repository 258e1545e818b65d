"""Gemma 4, the text of it (Google 2026): layers with a window have other heads, the last layers read the KV of others,
each token gives something to each layer, values are normed, and in some models experts stand beside the MLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.ops import HeadShape
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import MLP, Attention, Experts, Layer, LayerInputs, ModelConfig, Scales
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.gemma2 import NORMS, TENSORS
from stemma.runtime.model.families.mixture import is_unread
from stemma.runtime.model.families.reading import read_activation, read_layers, read_sizes, slides_but_every
from stemma.runtime.model.families.rope_settings import FULL, SLIDING, read_ropes
from stemma.runtime.model.settings import Settings

ROPES = {SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
         FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0}}  # fmt: skip
WINDOW_DIM = "_window_head_dim"
"""How a GGUF file's head size of layers with a window is asked for: its `head_dim` is that of the others."""


def read(settings: Settings) -> ModelConfig:
    window_heads, heads = _heads(settings)
    local_theta = settings.get("rope_local_base_freq", 10000.0)
    full, local = read_ropes(settings, heads.head_dim, 1e6, local_theta, window_heads.head_dim)
    if settings.get("use_bidirectional_attention") not in (None, "vision"):
        settings.refuse("use_bidirectional_attention", "tokens would see what comes behind them")
    config, bias = read_sizes(settings, full), settings.get("attention_bias", False)
    config = replace(
        config,
        num_kv_heads=heads.num_kv_heads,
        head_dim=heads.head_dim,
        window_heads=window_heads,
        layers=read_layers(settings, full.rope, _slides(settings), ropes=(full.rope, local.rope)),
        attention=Attention(scale=1.0, norms="head", value_norm=True, bias=bias, output_bias=bias),
        mlp=MLP(activation=read_activation(settings, "gelu_tanh", "hidden_activation")),
        norms=replace(NORMS, one_more=False),
        scales=Scales(embedding=config.hidden**0.5, logits_softcap=settings.get("final_logit_softcapping")),
        layer_inputs=_layer_inputs(settings, config),
        experts=_experts(settings),
    )
    layers = _with_shared_kv(settings, config)
    _check_layers(settings, layers)
    return replace(config, layers=layers)


def _heads(settings: Settings) -> tuple[HeadShape, HeadShape]:
    """Of layers with a window, and of the others. A newer config.json says the others' one by one."""
    number = settings.number("num_attention_heads")
    window_dim = settings.number(WINDOW_DIM, settings.number("head_dim"))
    window = HeadShape(number, settings.number("num_key_value_heads"), window_dim)
    size, kv_heads = settings.get("global_head_dim"), settings.get("num_global_key_value_heads")
    said = {"head_dim": size, "num_key_value_heads": kv_heads if settings.get("attention_k_eq_v", False) else None}
    each = settings.get("per_layer_config")
    if each is not None and not isinstance(each, Mapping):
        settings.refuse("per_layer_config", "it says the heads of layers by their numbers")
    if each is not None:
        said = next(iter(each.values()), {})
        if any(layer != said for layer in each.values()) or not said.keys() <= {"head_dim", "num_key_value_heads"}:
            settings.refuse("per_layer_config", "heads that differ among the layers that see all are not supported")
    return window, HeadShape(
        number, said.get("num_key_value_heads") or window.num_kv_heads, said.get("head_dim") or window_dim
    )


def _check_layers(settings: Settings, layers: tuple[Layer, ...]) -> None:
    """Heads that a file says one by one are those of the layers that see all."""
    said = set(map(int, settings.get("per_layer_config") or ()))
    if said and said != {index for index, layer in enumerate(layers) if layer.window is None}:
        settings.refuse("per_layer_config", "it says the heads of other layers than those that see all")


def _slides(settings: Settings) -> Any:
    """The last layer sees all, whatever the pattern is."""
    slides, last = slides_but_every(settings, 6), settings.number("num_hidden_layers") - 1
    return lambda layer: layer != last and slides(layer)


def _with_shared_kv(settings: Settings, config: ModelConfig) -> tuple[Layer, ...]:
    """The last layers read the KV of the last one before them of their kind, and may have an MLP of twice the width."""
    shared, equal = settings.get("num_kv_shared_layers", 0), settings.get("attention_k_eq_v", False)
    first, wide = config.num_layers - shared, settings.get("use_double_wide_mlp", False)
    own = {config.layer(index).window: index for index in range(first)}
    if any(config.layer(index).window not in own for index in range(config.num_layers)):
        settings.refuse("num_kv_shared_layers", "there is no layer whose keys and values they could read")
    layers = [
        replace(config.layer(index), keys_are_values=equal and config.layer(index).window is None)
        for index in range(config.num_layers)
    ]
    return tuple(
        layer if index < first else replace(
            layer, kv_from=own[layer.window], intermediate=2 * config.intermediate if wide else None
        )
        for index, layer in enumerate(layers)
    )  # fmt: skip


def _layer_inputs(settings: Settings, config: ModelConfig) -> LayerInputs | None:
    size = settings.get("hidden_size_per_layer_input", 0)
    rows = settings.get("vocab_size_per_layer_input", config.vocab_size)
    if size and rows < config.vocab_size:
        settings.refuse("vocab_size_per_layer_input", "some tokens would have no row in the table")
    return LayerInputs(size, rows) if size else None


def _experts(settings: Settings) -> Experts | None:
    count, top_k, size = (settings.get(name) for name in ("num_experts", "top_k_experts", "moe_intermediate_size"))
    if not settings.get("enable_moe_block", False):
        return None
    activation = read_activation(settings, "gelu_tanh", "hidden_activation")
    return Experts(count, size, ExpertsSpec(top_k, renormalise=True, activation=activation), beside=True)


def by_name(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    """Routers and experts under the names of other families, and without what is not read."""
    own = {"router.proj.weight": "mlp.gate.weight", "router.scale": "mlp.gate.scale",
           "router.per_expert_scale": "mlp.gate.scales", "experts.gate_up_proj": "mlp.experts.gate_up_proj.weight",
           "experts.down_proj": "mlp.experts.down_proj.weight"}  # fmt: skip
    found = {}
    for name, tensor in tensors.items():
        before, _, rest = name.rpartition(".layers.")
        layer, _, inner = rest.partition(".")
        if not is_unread(name, config):
            found[f"{before}.layers.{layer}.{own[inner]}" if inner in own else name] = tensor
    return found


def told(settings: Settings) -> dict[str, Any]:
    """What a file says of each layer, as a config.json says it."""
    sizes, heads = settings.get("intermediate_size"), settings.get("num_key_value_heads")
    found: dict[str, Any] = {"enable_moe_block": bool(settings.get("num_experts"))}
    if isinstance(sizes, list) and len(set(sizes)) > 1:
        first = len(sizes) - settings.get("num_kv_shared_layers", 0)
        if sizes != sizes[:1] * first + [2 * sizes[0]] * (len(sizes) - first):
            settings.refuse("intermediate_size", "layers that read the KV of others are twice as wide, and no others")
        found |= {"feed_forward_length": sizes[0], "use_double_wide_mlp": True}
    if isinstance(heads, list):
        if len(heads) != settings.number("num_hidden_layers"):
            settings.refuse("num_key_value_heads", "that is not one number for each layer")
        slides = slides_but_every(settings, 6)
        window, full = ({count for at, count in enumerate(heads) if slides(at) is kind} for kind in (True, False))
        if len(window) > 1 or len(full) > 1:
            settings.refuse("num_key_value_heads", "layers of one kind have as many heads of keys and values")
        of_full = {"num_key_value_heads": next(iter(full or window)), "head_dim": settings.get("global_head_dim")}
        each = {str(layer): of_full for layer in range(len(heads)) if not slides(layer)}
        found |= {"attention.head_count_kv": next(iter(window or full)), "per_layer_config": each}
    if settings.get("rope.dimension_count_swa", 0) not in (0, settings.get(WINDOW_DIM)):
        settings.refuse("rope.dimension_count_swa", "models of this type rotate whole heads")
    if settings.get("attention.value_length_swa", 0) not in (0, settings.get(WINDOW_DIM)):
        settings.refuse("attention.value_length_swa", "values are as long as keys in models that are run")
    return found


GGUF_SETTINGS = {
    "global_head_dim": "attention.key_length", WINDOW_DIM: "attention.key_length_swa",
    "num_kv_shared_layers": "attention.shared_kv_layers", "rope_local_base_freq": "rope.freq_base_swa",
    "hidden_size_per_layer_input": "embedding_length_per_layer_input", "num_experts": "expert_count",
    "top_k_experts": "expert_used_count",
}  # fmt: skip
GGUF_TENSORS = TENSORS | {
    "per_layer_token_embd": "model.embed_tokens_per_layer", "per_layer_model_proj": "model.per_layer_model_projection",
    "per_layer_proj_norm": "model.per_layer_projection_norm", "inp_gate": "per_layer_input_gate",
    "proj": "per_layer_projection", "post_norm": "post_per_layer_input_norm",
    "layer_output_scale.weight": "layer_scalar", "ffn_gate_inp.scale": "mlp.gate.scale",
    "ffn_gate_up_exps": "mlp.experts.gate_up_proj", "ffn_down_exps.scale": "mlp.gate.scales",
    "pre_ffw_norm_2": "pre_feedforward_layernorm_2", "post_ffw_norm_1": "post_feedforward_layernorm_1",
    "post_ffw_norm_2": "post_feedforward_layernorm_2",
}  # fmt: skip
GEMMA4 = Family(
    read,
    GGUF("gemma4", GGUF_SETTINGS, GGUF_TENSORS, told=told),
    defaults={"num_key_value_heads": 4, "head_dim": 256, "global_head_dim": 512, "tie_word_embeddings": True,
              "sliding_window": 512, "rope_parameters": ROPES, "hidden_size_per_layer_input": 256,
              "vocab_size_per_layer_input": 262144},
    tiny={"num_hidden_layers": 4, "layer_types": [SLIDING, FULL] * 2, "num_kv_shared_layers": 2, "global_head_dim": 32,
          "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 1024},
    folder=by_name,
)  # fmt: skip
