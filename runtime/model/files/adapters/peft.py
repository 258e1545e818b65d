"""A folder of PEFT: adapter_config.json and adapter_model.safetensors. Settings that change what a matrix becomes are
used, or refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.errors import ModelFileError, ModelNotFound, UnsupportedModel
from stemma.runtime.model.files.adapters.merge import Adapter, Change, Floats
from stemma.runtime.model.files.folder_weights import read_json
from stemma.runtime.model.files.safetensors_format import open_safetensors

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
USED = frozenset(
    ("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "modules_to_save",
     "init_lora_weights", "bias", "lora_bias")
)  # fmt: skip
WITHOUT_EFFECT = frozenset(
    ("auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "exclude_modules", "inference_mode",
     "layers_pattern", "layers_to_transform", "lora_dropout", "loftq_config", "megatron_config", "megatron_core",
     "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules", "task_type",
     "ensure_weight_tying")
)  # fmt: skip
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to begin a training that leave the model's own weights as they are."""
DOWN, UP, LENGTHS = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


def read_peft(folder: Path) -> Adapter:
    """Raises ModelNotFound, ModelFileError or UnsupportedModel, each saying what to do."""
    if not (folder / WEIGHTS).exists():
        raise ModelNotFound(f"{folder} has no {WEIGHTS}; save the adapter with save_pretrained (as safetensors)")
    settings, tensors = read_json(folder / CONFIG), open_safetensors(folder / WEIGHTS)
    _check(settings, folder)
    changes: dict[str, Change] = {}
    whole: dict[str, StoredWeight] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(PREFIX)
        if bare.endswith(DOWN):
            module = bare.removesuffix(DOWN)
            parts = {ending: _part(tensors, PREFIX + module, ending) for ending in (DOWN, UP, LENGTHS)}
            changes[f"{module}.weight"] = _change(settings, module, parts, folder)
        elif "lora_" not in bare:
            whole[bare] = tensor
        elif not bare.endswith(UP) and LENGTHS not in bare:
            raise UnsupportedModel(f"{folder}: {name!r} is not merged; only matrices of linear modules are")
    if not changes and not whole:
        raise ModelFileError(f"{folder} holds no tensors of an adapter; fetch it again")
    return Adapter(str(folder), changes, whole)


def _part(tensors: Mapping[str, StoredWeight], module: str, ending: str) -> Floats | None:
    found = tensors.get(module + ending) or tensors.get(f"{module}{ending}.weight")
    return None if found is None else dequantize(found)


def _change(settings: Mapping[str, Any], module: str, parts: Mapping[str, Floats | None], folder: Path) -> Change:
    down, up, lengths = parts[DOWN], parts[UP], parts[LENGTHS]
    if down is None or up is None or (settings.get("use_dora") and lengths is None):
        raise ModelFileError(f"{folder} holds only a part of what changes {module!r}; fetch it again")
    rank = _of_module(settings, "rank_pattern", module, settings.get("r"))
    if down.ndim != 2 or up.ndim != 2 or len(down) != rank or up.shape[1] != rank:
        raise ModelFileError(
            f"{folder} has {down.shape} and {up.shape} for {module!r}, but {CONFIG} a rank of {rank}; fetch it again"
        )
    alpha = _of_module(settings, "alpha_pattern", module, settings.get("lora_alpha", 8))
    scale = float(alpha) / (rank**0.5 if settings.get("use_rslora") else rank)
    return Change(down, up, scale, None if lengths is None else lengths.reshape(-1))


def _of_module(settings: Mapping[str, Any], name: str, module: str, default: Any) -> Any:
    """The first pattern that is the end of the module's name, as PEFT finds it."""
    for pattern, value in (settings.get(name) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _check(settings: Mapping[str, Any], folder: Path) -> None:
    def refuse(name: str, why: str) -> None:
        raise UnsupportedModel(f"{folder / CONFIG} sets {name!r} to {settings.get(name)!r}: {why}")

    if settings.get("peft_type") != "LORA":
        refuse("peft_type", "only adapters of type LORA are merged")
    if settings.get("bias", "none") != "none" or settings.get("lora_bias"):
        refuse("bias" if settings.get("bias", "none") != "none" else "lora_bias", "biases of adapters are not merged")
    if settings.get("init_lora_weights") not in PLAIN_STARTS:
        refuse("init_lora_weights", "it changes the model's own weights too; save the adapter converted to plain LoRA")
    if unknown := sorted(key for key, value in settings.items() if value and key not in USED | WITHOUT_EFFECT):
        refuse(unknown[0], "this version does not know what it does; if it changes nothing, take it out of the file")
