"""What families with experts have in common: names of their settings, and layers behind the last."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.settings import Settings

TRAINING = frozenset({"output_router_logits", "router_aux_loss_coef", "router_jitter_noise", "aux_loss_alpha",
                      "seq_aux", "num_mtp_layers", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings",
                      "num_nextn_predict_layers", "ep_size",
                      "moe_layer_freq"})  # fmt: skip
"""Settings of training, and of layers that guess further tokens, which are not run."""
FURTHER = ("mtp.", "model.mtp.")
OWN_KV = frozenset({"k_proj", "v_proj", "k_norm"})
SHARED_TENSORS = MappingProxyType(
    {f"ffn_{name}_shexp": f"mlp.shared_expert.{name}_proj" for name in ("gate", "up", "down")}
)


def sparse_layers(settings: Settings, num_layers: int) -> frozenset[int]:
    """Layers without experts, as Qwen says them: all but every n-th, and those that are named."""
    step, named = settings.number("decoder_sparse_step", 1), settings.get("mlp_only_layers", [])
    return frozenset(layer for layer in range(num_layers) if layer in named or (layer + 1) % step != 0)


def first_layers(settings: Settings, name: str) -> frozenset[int]:
    """Layers without experts, as DeepSeek says them: so many of the first."""
    count = settings.number(name) if settings.get(name) else 0
    return frozenset(range(min(count, settings.number("num_hidden_layers"))))


def is_behind(name: str, config: ModelConfig) -> bool:
    """Whether a tensor is of a layer that guesses further tokens: behind the last one, or by names of its own."""
    parts = name.split(".")
    if config.experts is None and config.delta is None:
        return False
    layer = parts[2] if parts[:2] == ["model", "layers"] else parts[1] if parts[0] == "blk" else ""
    return name.startswith(FURTHER) or (layer.isdigit() and int(layer) >= config.num_layers)


def is_unread(name: str, config: ModelConfig) -> bool:
    """Whether nobody multiplies by a tensor that files may hold: one of a layer behind the last, or what would make
    keys and values in a layer that reads those of another."""
    parts = name.split(".")
    if is_behind(name, config) or parts[:2] != ["model", "layers"]:
        return is_behind(name, config)
    return parts[-2] in OWN_KV and config.layer(int(parts[2])).kv_from is not None


def without_layers_behind(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    return {name: tensor for name, tensor in tensors.items() if not is_behind(name, config)}
