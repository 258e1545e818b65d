"""Models of the Hugging Face hub, through its own library and its cache. Reads no model file."""

from __future__ import annotations

import re
from pathlib import Path

from stemma.runtime.errors import ModelNotFound

FILES = ("*.json", "*.jinja", "*.safetensors")
OTHER_FILES = ("*/*.json", "*/*.safetensors", "consolidated*", "adapter_*", "optimizer*", "training_args*")
"""What lies beside a model in its repository: copies for other programs, weights as their authors have them, adapters,
states of a training."""
OTHER_FILES_OF_MISTRAL = tuple(pattern for pattern in OTHER_FILES if pattern != "consolidated*")
"""Of a repository in Mistral's form alone."""

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def fetch_from_hub(repository: str) -> Path:
    """The local folder of a model's hub repository, downloaded if need be.

    Raises ModelNotFound if it cannot be had: no such repository, no permission, no connection.
    """
    instead = "the path of a .gguf file or of a model folder"
    folder = _fetch(repository, list(FILES), list(OTHER_FILES), instead)
    if (folder / "params.json").exists() and not (folder / "config.json").exists():
        return _fetch(repository, list(FILES), list(OTHER_FILES_OF_MISTRAL), instead)
    return folder


def fetch_adapter(repository: str) -> Path:
    """The same of an adapter's repository."""
    return _fetch(repository, list(ADAPTER_FILES), [], "the path of an adapter's folder")


def _fetch(repository: str, wanted: list[str], others: list[str], instead: str) -> Path:
    import huggingface_hub  # imported here: it takes a while, and most models are local files
    from huggingface_hub import errors

    try:
        return Path(
            huggingface_hub.snapshot_download(repository, allow_patterns=wanted, ignore_patterns=others)
        )  # fmt: skip
    except errors.GatedRepoError as error:
        raise ModelNotFound(
            f"{repository} asks for consent: accept its terms on the hub, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"the hub has no {repository}, or it is private; check the name or `hf auth login`"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        raise ModelNotFound(
            f"{repository} is neither a local file nor in the hub's cache, and the hub cannot be reached; connect, or "
            f"give {instead}"
        ) from error
