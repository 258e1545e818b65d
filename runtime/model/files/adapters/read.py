"""An adapter from wherever it is."""

from __future__ import annotations

from pathlib import Path

from stemma.runtime.errors import ModelNotFound
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.files.adapters.gguf_adapter import read_gguf_adapter
from stemma.runtime.model.files.adapters.merge import Adapter
from stemma.runtime.model.files.adapters.peft import read_peft
from stemma.runtime.model.files.hub import HUB_ID, fetch_adapter


def read_adapter(source: str | Path, config: ModelConfig) -> Adapter:
    """source: a folder of PEFT, a .gguf file or a hub id. config: of the model that it changes.

    Raises ModelNotFound, ModelFileError or UnsupportedModel, each saying what to do.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return read_peft(path)
    if path.is_file() and path.suffix == ".gguf":
        return read_gguf_adapter(path, config)
    if isinstance(source, str) and not path.exists() and HUB_ID.fullmatch(source):
        return read_peft(fetch_adapter(source))
    raise ModelNotFound(
        f"there is no adapter {source}; give a folder with adapter_config.json, a .gguf file, or a hub id"
    )
