"""Folders in Hugging Face's form: what is read from which file, and what is refused with which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from stemma.kernels.weights import dequantize
from stemma.runtime.errors import ModelError, ModelFileError, ModelNotFound, UnsupportedModel
from stemma.runtime.model import load
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.files.hugging_face import read_hugging_face
from stemma.runtime.model.tiny import byte_tokenizer, tiny, tiny_config, tiny_tensors
from tests.runtime.model.running import all_logits, reference_ops

CONFIG: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "hidden_size": 64, "intermediate_size": 128, "vocab_size": 260, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "eos_token_id": 256,
}  # fmt: skip


def tiny_llama() -> dict[str, torch.Tensor]:
    tensors = tiny_tensors(tiny_config("llama"), 0)
    return {name: torch.from_numpy(dequantize(tensor)) for name, tensor in tensors.items()}


def write_folder(folder: Path, **changes: Any) -> Path:
    """The tiny Llama as a folder, its configuration changed."""
    tensors = {
        name: torch.from_numpy(dequantize(tensor)) for name, tensor in tiny_tensors(tiny_config("llama"), 0).items()
    }
    save_file(tensors, folder / "model.safetensors")
    write(folder / "config.json", {**CONFIG, **changes})
    files = byte_tokenizer()
    write(folder / "tokenizer.json", files.spec)
    write(folder / "tokenizer_config.json", {**files.special, "chat_template": files.chat_template})
    return folder


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def test_a_folder_is_the_model_it_was_made_from(tmp_path: Path) -> None:
    loaded, original = load(str(write_folder(tmp_path)), reference_ops()), tiny(reference_ops())
    assert loaded.config.name == tmp_path.name
    assert loaded.generation.eos_ids == (256,)
    assert loaded.tokenizer.special == original.tokenizer.special
    assert loaded.tokenizer.bos_id == 258
    ids = [257, *b"user\nHello", 256]
    assert torch.equal(all_logits(loaded.model, ids), all_logits(original.model, ids))
    chat = [{"role": "user", "content": "Hi"}]
    assert loaded.chat_template is not None
    assert original.chat_template is not None
    assert loaded.chat_template.encode_chat(chat) == original.chat_template.encode_chat(chat)


def test_weights_are_memory_maps(tmp_path: Path) -> None:
    tensors = read_hugging_face(write_folder(tmp_path)).tensors
    assert "model.embed_tokens.weight" in tensors
    for tensor in tensors.values():
        base: Any = tensor.data
        while base.base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    reports: list[tuple[str, float]] = []
    load(write_folder(tmp_path), reference_ops(), lambda stage, fraction: reports.append((stage, fraction)))
    fractions = [fraction for _, fraction in reports]
    assert {stage for stage, _ in reports} == {"weights"}
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.5
    assert fractions[-1] == 1.0


# Where settings stand ---------------------------------------------------------------------------------------------
def test_generation_settings_have_their_file(tmp_path: Path) -> None:
    write(write_folder(tmp_path) / "generation_config.json", {"eos_token_id": [257, 256], "top_p": 0.9, "top_k": 20})
    generation = read_hugging_face(tmp_path).generation
    assert (generation.eos_ids, generation.temperature, generation.top_k, generation.top_p) == (
        (256, 257),
        None,
        20,
        0.9,
    )


def test_a_template_file_goes_before_a_setting(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "chat_template.jinja").write_text("mine")
    assert read_hugging_face(tmp_path).tokenizer.chat_template == "mine"


def test_of_named_templates_the_default_is_taken(tmp_path: Path) -> None:
    named = [
        {"name": "tool_use", "template": "a"},
        {"name": "default", "template": "b"},
        {"name": "rag", "template": "c"},
    ]
    write(write_folder(tmp_path) / "tokenizer_config.json", {"chat_template": named})
    assert templates_of(tmp_path) == ("b", "a")
    write(tmp_path / "chat_template.json", {"chat_template": "not asked"})
    assert templates_of(tmp_path) == ("b", "a")
    write(tmp_path / "tokenizer_config.json", {})
    write(tmp_path / "chat_template.json", {"chat_template": {"default": "d", "tool_use": "e"}})
    assert templates_of(tmp_path) == ("d", "e")
    write(tmp_path / "chat_template.json", {"chat_template": "f"})
    assert templates_of(tmp_path) == ("f", None)
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("g")
    (tmp_path / "chat_template.jinja").write_text("h")
    assert templates_of(tmp_path) == ("h", "g")


def templates_of(folder: Path) -> tuple[str | None, str | None]:
    files = read_hugging_face(folder).tokenizer
    return files.chat_template, files.tool_template


def test_the_template_for_tools_is_taken_where_there_are_tools(tmp_path: Path) -> None:
    """As transformers takes it, from the same folder; tags that only it writes are control tokens too."""
    named = [
        {"name": name, "template": f"{name}<tool>{{{{ messages[0].content }}}}"} for name in ("default", "tool_use")
    ]
    named[0]["template"] = named[0]["template"].replace("<tool>", "")
    spec = byte_tokenizer().spec
    tag = {**spec["added_tokens"][0], "id": 259, "content": "<tool>", "special": False}
    vocabulary = {text: index for text, index in spec["model"]["vocab"].items() if index != 259}
    changed = {"added_tokens": [*spec["added_tokens"][:3], tag], "model": {**spec["model"], "vocab": vocabulary}}
    write(write_folder(tmp_path) / "tokenizer.json", {**spec, **changed})
    write(tmp_path / "tokenizer_config.json", {"chat_template": named, "tokenizer_class": "PreTrainedTokenizerFast"})
    template = load(tmp_path, reference_ops()).chat_template
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    chat = [{"role": "user", "content": "<tool>"}]
    assert template is not None
    for tools in (None, [], [{"type": "function", "function": {"name": "f"}}]):
        assert template.render(chat, tools=tools) == theirs.apply_chat_template(chat, tools=tools, tokenize=False)
    assert template.encode_chat(chat) == [*b"default<tool>"]
    assert template.encode_chat(chat, tools=[]) == [*b"tool_use", 259, *b"<tool>"]


def test_a_base_model_has_no_template(tmp_path: Path) -> None:
    write(write_folder(tmp_path) / "tokenizer_config.json", {})
    assert load(tmp_path, reference_ops()).chat_template is None


def test_special_tokens_are_spelled_in_three_ways(tmp_path: Path) -> None:
    settings = {"bos_token": {"content": "<|bos|>"}, "eos_token": "<|end|>", "pad_token": None}
    write(write_folder(tmp_path) / "tokenizer_config.json", settings)
    write(tmp_path / "special_tokens_map.json", {"eos_token": "<|start|>", "pad_token": "<|pad|>"})
    special = read_hugging_face(tmp_path).tokenizer.special
    assert special == {"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}


def windows(**changes: Any) -> list[int | None]:
    config = read_config({**CONFIG, **changes}, "x")
    return [config.layer(index).window for index in range(config.num_layers)]


def test_windows_are_those_of_the_family() -> None:
    assert windows(sliding_window=512) == [None, None]
    assert windows(model_type="mistral", sliding_window=512) == [512, 512]
    assert windows(model_type="mistral", sliding_window=None) == [None, None]
    assert windows(model_type="mistral") == [4096, 4096]
    assert windows(model_type="mistral", sliding_window=512, use_sliding_window=False) == [512, 512]  # that is Qwen's
    qwen = {"model_type": "qwen2", "sliding_window": 512, "max_window_layers": 1}
    assert windows(**qwen, use_sliding_window=False) == [None, None]
    assert windows(**qwen, use_sliding_window=True) == [None, 512]
    assert windows(**{**qwen, "max_window_layers": 2}, use_sliding_window=True) == [None, None]
    assert windows(**qwen, use_sliding_window=True, layer_types=["sliding_attention", "full_attention"]) == [512, None]
    assert read_config({**CONFIG, "model_type": "mistral", "sliding_window": 512}, "x").context_length == 2048


# What is refused ----------------------------------------------------------------------------------------------------
REFUSED: list[tuple[dict[str, Any], type[ModelError], str]] = [
    ({"model_type": "gpt2"}, UnsupportedModel, "'gpt2' are not supported; supported: .*llama, .*mistral"),
    ({"hidden_act": "mish"}, UnsupportedModel, "'hidden_act' to 'mish': .* supported: gelu, .*silu"),
    ({"quantization_config": {"quant_method": "quip"}}, UnsupportedModel, "quantised by 'quip' are not read"),
    ({"rope_scaling": {"type": "mrope"}}, UnsupportedModel, "'mrope' in rope_scaling is not supported; supported: lin"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, ModelFileError, "no value 'low_freq_factor'"),
    (
        {"partial_rotary_factor": 0.5},
        UnsupportedModel,
        "'partial_rotary_factor' to 0.5: models of this type rotate whole",
    ),
    ({"hidden_size": 32}, ModelFileError, r"has shape \(260, 64\), but the model's configuration says \(260, 32\)"),
    ({"num_hidden_layers": 3}, ModelFileError, "no tensor 'model.layers.2"),
    ({"num_hidden_layers": 1}, UnsupportedModel, "does not compute with: model.layers.1"),
    ({"model_type": "qwen2"}, ModelFileError, "no tensor 'model.layers.0.self_attn.q_proj.bias'"),
]


@pytest.mark.parametrize(("changes", "error", "words"), REFUSED)
def test_refused(changes: dict[str, Any], error: type[ModelError], words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        load(write_folder(tmp_path, **changes), reference_ops())


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ModelFileError, match="no value 'hidden_size'"):
        read_config({key: value for key, value in CONFIG.items() if key != "hidden_size"}, "x")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    (write_folder(tmp_path) / name).unlink()
    with pytest.raises(ModelNotFound, match=r"has no .*" + name.removeprefix("model")):
        load(tmp_path, reference_ops())


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    write(write_folder(tmp_path) / "model.safetensors.index.json", index)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="model-00002-of-00002"):
        load(tmp_path, reference_ops())


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_damaged_json_is_told(content: str, tmp_path: Path) -> None:
    (write_folder(tmp_path) / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelFileError, match="fetch it again"):
        load(tmp_path, reference_ops())


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_a_safetensors_file_cut_short_is_told(keep: int, tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="damaged or cut short"):
        load(tmp_path, reference_ops())


def test_a_type_that_is_not_read_is_told(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "model.safetensors"
    tensors = {
        name: torch.from_numpy(dequantize(tensor)) for name, tensor in tiny_tensors(tiny_config("llama"), 0).items()
    }
    save_file({**tensors, "model.norm.weight": torch.ones(64, dtype=torch.int8)}, path)
    with pytest.raises(UnsupportedModel, match="stored as I8; use a file with one of"):
        load(tmp_path, reference_ops())


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ModelNotFound, match=r"neither a \.gguf file nor a folder"):
        load(tmp_path / "model.bin", reference_ops())
