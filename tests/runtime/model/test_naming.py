"""Models are called what people call them, not what a converter wrote into their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemma.runtime.model.files.naming import name_of


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("Qwen3-8B-UD-Q4_K_XL-00001-of-00002.gguf", "Qwen3-8B"),
        ("Mistral-7B-v0.3.i1-IQ3_XXS.gguf", "Mistral-7B-v0.3"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "qwen2.5-0.5b-instruct"),
        ("gpt-oss-20b-mxfp4.gguf", "gpt-oss-20b"),
        ("gemma-3-1b-it-BF16.gguf", "gemma-3-1b-it"),
        ("Phi-3.5-mini-instruct_Q8_0.gguf", "Phi-3.5-mini-instruct"),
        ("bitnet-TQ2_0.gguf", "bitnet"),
        ("model.gguf", "model"),
        ("Q8_0.gguf", "Q8_0"),
        ("Yi-1.5-9B.gguf", "Yi-1.5-9B"),
    ],
)
def test_a_file_is_called_by_its_name_without_its_quantisation(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).touch()
    assert name_of(tmp_path / file) == name


def test_folders_and_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "models--HuggingFaceTB--SmolLM2-135M" / "snapshots" / "0f3a5b"
    for folder in (tmp_path / "Qwen3-0.6B", cached):
        folder.mkdir(parents=True)
    assert name_of(tmp_path / "Qwen3-0.6B") == "Qwen3-0.6B"
    assert name_of(f"{tmp_path}/Qwen3-0.6B/") == "Qwen3-0.6B"
    assert name_of(cached) == name_of("HuggingFaceTB/SmolLM2-135M") == "HuggingFaceTB/SmolLM2-135M"
    monkeypatch.chdir(tmp_path / "Qwen3-0.6B")
    assert name_of(".") == "Qwen3-0.6B"
