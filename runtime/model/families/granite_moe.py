"""Granite 3 with experts (IBM 2024), and in some models one that all tokens share: the experts of a layer lie in one
tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.config import Experts, ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.granite import SETTINGS, scaled
from stemma.runtime.model.families.llama import read_llama, unpermuted
from stemma.runtime.model.families.mixture import TRAINING
from stemma.runtime.model.parts.tensors import divided
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    return with_experts(scaled(read_llama(settings), settings), settings)


def with_experts(config: ModelConfig, settings: Settings) -> ModelConfig:
    """shared_intermediate_size: 0, or nothing, is no shared expert."""
    spec = ExpertsSpec(
        settings.number("num_experts_per_tok"), "softmax of the chosen", activation=config.mlp.activation
    )  # fmt: skip
    shared = settings.get("shared_intermediate_size") or 0
    experts = Experts(
        settings.number("num_local_experts"), config.intermediate, spec,
        shared="shared_mlp" if shared else None, shared_intermediate=shared,
    )  # fmt: skip
    return replace(config, experts=experts)


def by_name(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    """Gates and ups apart, all under the names of other families; a dense model's as they are."""
    found: dict[str, StoredWeight] = {}
    if config.experts is None:
        return dict(tensors)
    for name, tensor in tensors.items():
        place, _, rest = name.partition("block_sparse_moe.")
        if ".shared_mlp." in name:
            found |= _shared(name, tensor, config.experts)
            continue
        if rest == "input_linear.weight":
            inner = config.intermediate
            shape = (tensor.shape[0], inner, tensor.shape[2])
            for part, rows in (("gate", slice(inner)), ("up", slice(inner, None))):
                found[f"{place}mlp.experts.{part}_proj.weight"] = replace(
                    tensor, shape=shape, data=tensor.data[:, rows]
                )
        elif rest:
            own = {"output_linear.weight": "experts.down_proj.weight", "router.layer.weight": "gate.weight"}
            found[f"{place}mlp.{own.get(rest, rest)}"] = tensor
        else:
            found[name] = tensor
    return found


def _shared(name: str, tensor: StoredWeight, experts: Experts) -> dict[str, StoredWeight]:
    place, _, rest = name.partition("shared_mlp.")
    if rest == "output_linear.weight":
        return {f"{place}mlp.shared_mlp.down_proj.weight": tensor}
    pieces = divided(tensor, [experts.shared_intermediate] * 2)
    return {
        f"{place}mlp.shared_mlp.{part}_proj.weight": piece for part, piece in zip(("gate", "up"), pieces, strict=True)
    }


KEYS = {"num_local_experts": "expert_count", "shared_intermediate_size": "expert_shared_feed_forward_length"}
SHARED = {f"ffn_{part}_shexp": f"mlp.shared_mlp.{part}_proj" for part in ("gate", "up", "down")}
GRANITE_MOE = Family(
    read,
    GGUF("granitemoe", {**SETTINGS, **KEYS}, SHARED, unpermuted),
    defaults={"num_experts_per_tok": 2, "num_local_experts": 8},
    without_effect=TRAINING,
    tiny={"num_local_experts": 4},
    folder=by_name,
)
