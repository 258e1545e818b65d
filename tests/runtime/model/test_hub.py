"""Hub ids without a network: from the hub's cache, and what is said when there is nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from stemma.runtime.model.files.hub import FILES, OTHER_FILES, fetch_from_hub
from stemma.runtime.settings import child_environment
from tests.runtime.model.test_adapters import write_adapter
from tests.runtime.model.test_hugging_face import write_folder

ADAPTER = """
import sys
from stemma.runtime.errors import ModelNotFound
from stemma.runtime.model.files.adapters.read import read_adapter
try:
    print(sorted(read_adapter(sys.argv[1], None).changes))
except ModelNotFound as error:
    print(error)
"""
LOAD = """
import sys, torch
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.errors import ModelNotFound
from stemma.runtime.model import load
try:
    print(load(sys.argv[1], ReferenceOps(torch.device("cpu"))).config.hidden)
except ModelNotFound as error:
    print(error)
print("transformers" in sys.modules)
"""


def load_offline(cache: Path, source: str, program: str = LOAD) -> list[str]:
    """What a fresh process says that has no network and this cache (the hub's library reads both when imported)."""
    environment = child_environment(HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(cache), PYTHONPATH=":".join(sys.path))
    done = subprocess.run([sys.executable, "-c", program, source], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    repository = tmp_path / "models--some--model"
    commit = "0123456789012345678901234567890123456789"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    write_folder(snapshot)
    write_adapter(snapshot, {"model.layers.0.self_attn.q_proj": 4})
    return tmp_path


def test_a_model_in_the_cache_is_loaded_without_transformers(cache: Path) -> None:
    assert load_offline(cache, "some/model") == ["64", "False"]


def test_an_adapter_in_the_cache_is_read(cache: Path) -> None:
    assert load_offline(cache, "some/model", ADAPTER) == ["['model.layers.0.self_attn.q_proj.weight']"]
    (said,) = load_offline(cache, "some/other", ADAPTER)
    assert "give the path of an adapter's folder" in said


def test_only_what_is_needed_is_fetched() -> None:
    needed = [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "chat_template.jinja", "additional_chat_templates/tool_use.jinja", "model-00001-of-00002.safetensors",
        "model.safetensors.index.json", "quantize_config.json",
    ]  # fmt: skip
    others = [
        "README.md", "consolidated.safetensors", "consolidated.safetensors.index.json", "original/params.json",
        "original/consolidated.00.pth", "original/model.safetensors", "metal/model.bin", "onnx/model.onnx",
        "pytorch_model.bin", "adapter_model.safetensors", "adapter_config.json", "model.gguf", "onnx/config.json",
        "tokenizer.model", "checkpoint-100/model.safetensors", "training_args.bin", ".gitattributes",
    ]  # fmt: skip
    taken = filter_repo_objects(needed + others, allow_patterns=list(FILES), ignore_patterns=list(OTHER_FILES))
    assert list(taken) == needed


def test_the_authors_weights_are_fetched_where_there_are_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A repository in Mistral's form alone, which its small files tell."""
    files = ["params.json", "tekken.json", "consolidated.safetensors", "README.md", "onnx/model.onnx"]
    asked: list[list[str]] = []

    def snapshot(repository: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        found = list(filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns))
        asked.append(found)
        for name in found:
            (tmp_path / name).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert fetch_from_hub("some/model") == tmp_path
    assert asked == [["params.json", "tekken.json"], ["params.json", "tekken.json", "consolidated.safetensors"]]
    files.append("config.json")  # beside it, transformers' form has the model's own weights too
    fetch_from_hub("some/model")
    assert asked[2:] == [["params.json", "tekken.json", "config.json"]]


def test_an_absent_model_says_what_to_do(cache: Path) -> None:
    said, _ = load_offline(cache, "some/other")
    assert "some/other is neither a local file nor in the hub's cache" in said
    assert "give the path of a .gguf file or of a model folder" in said
