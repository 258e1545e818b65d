"""Granite 3 with experts (IBM 2024): the experts of a layer lie in one tensor."""

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
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = scaled(read_llama(settings), settings)
    spec = ExpertsSpec(
        settings.number("num_experts_per_tok"), "softmax of the chosen", activation=config.mlp.activation
    )  # fmt: skip
    experts = Experts(settings.number("num_local_experts"), config.intermediate, spec)
    return replace(config, experts=experts)


def by_name(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    """Gates and ups apart, all under the names of other families."""
    inner, found = config.intermediate, {}
    for name, tensor in tensors.items():
        place, _, rest = name.partition("block_sparse_moe.")
        if rest == "input_linear.weight":
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


GRANITE_MOE = Family(
    read,
    GGUF("granitemoe", {**SETTINGS, "num_local_experts": "expert_count"}, undo=unpermuted),
    defaults={"num_experts_per_tok": 2, "num_local_experts": 8},
    without_effect=TRAINING,
    tiny={"num_local_experts": 4},
    folder=by_name,
)
