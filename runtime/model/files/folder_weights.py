"""The tensors of a model folder: which safetensors files are the model's, under which names, quantised or not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError, ModelNotFound
from stemma.runtime.model.files.quantised.register import read_quantised
from stemma.runtime.model.files.safetensors_format import open_safetensors

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r".*-(\d{5})-of-(\d{5})\.safetensors")
OTHERS = re.compile(r"(adapter_|consolidated|optimizer|training_args|scaler|rng_state).*")
"""Files that lie beside a model's own: adapters, the same weights as their authors have them, states of a training."""
ROPE_BUFFER = ".rotary_emb.inv_freq"
QUANTISED_SEPARATELY = "quantize_config.json"


def folder_tensors(folder: Path, config: Mapping[str, Any]) -> dict[str, StoredWeight]:
    """All tensors under the names of a causal language model. config: config.json.

    Raises ModelNotFound for files that are missing, ModelFileError for damaged ones, UnsupportedModel for a
    quantisation that is not read.
    """
    tensors = {
        name: tensor
        for path in _weight_files(folder)
        for name, tensor in open_safetensors(path).items()
        if not name.endswith(ROPE_BUFFER)
    }
    settings = quantisation(folder, config)
    return _with_prefix(read_quantised(settings, tensors) if settings else tensors)


def quantisation(folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the folder is quantised; empty if it is not. Older GPTQ has a file of its own for that."""
    found = config.get("quantization_config") or config.get("compression_config")
    if isinstance(found, Mapping) and found:
        return found
    path = folder / QUANTISED_SEPARATELY
    return {"quant_method": "gptq", **read_json(path)} if path.exists() else {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelFileError."""
    content = _any_json(path)
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} is not a JSON object; fetch it again")
    return content


def read_json_list(path: Path) -> list[Any]:
    """A JSON array. Raises ModelFileError."""
    content = _any_json(path)
    if not isinstance(content, list):
        raise ModelFileError(f"{path} is not a JSON array; fetch it again")
    return content


def _any_json(path: Path) -> Any:
    """Whatever a JSON file holds. Raises ModelFileError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); fetch it again") from error


def _weight_files(folder: Path) -> list[Path]:
    """As transformers chooses: the whole file, else what the index lists; without either, what is no other's."""
    if (folder / WHOLE).exists():
        return [folder / WHOLE]
    if (folder / INDEX).exists():
        weight_map = read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelFileError(f"{folder / INDEX} has no weight_map; fetch it again")
        files = [folder / name for name in sorted(set(weight_map.values()))]
    else:
        files = sorted(path for path in folder.glob("*.safetensors") if not OTHERS.fullmatch(path.name))
        files += [path.with_name(name) for path in files for name in _siblings(path.name) if path == files[0]]
    missing = sorted({path.name for path in files if not path.exists()})
    if missing or not files:
        what = ", ".join(missing) or "*.safetensors"
        raise ModelNotFound(f"{folder} has no {what}; fetch the model again (pickled .bin weights are not read)")
    return sorted(set(files))


def _siblings(name: str) -> list[str]:
    """All shards of a file that is one of several."""
    shard = SHARD.fullmatch(name)
    if shard is None:
        return []
    count = int(shard[2])
    return [f"{name[: shard.start(1)]}{number:05}{name[shard.end(1) :]}" for number in range(1, count + 1)]


def _with_prefix(tensors: dict[str, StoredWeight]) -> dict[str, StoredWeight]:
    """Names of a model that was saved without its head (as embedding models are) begin behind `model.`."""
    if "embed_tokens.weight" not in tensors or any(name.startswith("model.") for name in tensors):
        return tensors
    return {name if name.startswith("lm_head.") else f"model.{name}": tensor for name, tensor in tensors.items()}
