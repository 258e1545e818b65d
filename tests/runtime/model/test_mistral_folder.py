"""Folders in Mistral's own form, against transformers' Mistral of the same weights, and tekken.json against byte pairs
joined by rank (as tiktoken joins them)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import save_file

from stemma.kernels.weights import small_floats
from stemma.runtime.errors import ModelFileError, ModelNotFound, StemmaError, UnsupportedModel
from stemma.runtime.model import load
from stemma.runtime.model.files.tekken import read_tekken
from stemma.runtime.model.text.tokenizer import Tokenizer
from tests.runtime.model.gguf_writing import Array, interleaved
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_logits import write_tokenizer

IDS = list(range(3, 120))
SIZES: dict[str, Any] = {
    "vocab_size": 285, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_key_value_heads": 2,
    "num_attention_heads": 4, "head_dim": 16, "initializer_range": 0.15, "max_position_embeddings": 1024,
}  # fmt: skip
PARAMS = {"dim": 64, "n_layers": 2, "head_dim": 16, "hidden_dim": 96, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-6,
          "vocab_size": 285, "rope_theta": 10000.0, "max_seq_len": 1024}  # fmt: skip
NAMES = {
    "model.embed_tokens": "tok_embeddings", "model.norm": "norm", "lm_head": "output", "model.layers": "layers",
    "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2", "mlp.up_proj": "feed_forward.w3",
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 256,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.1}  # fmt: skip
WORDS = ["th", "he", "the", " t", " the", "in", "ing", "er", "\n\n", "é"]
SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]"]
PATTERN = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def random_model(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def own_tensors(model: transformers.PreTrainedModel) -> dict[str, Array]:
    """By Mistral's names, the rows of Q and K as pairs of neighbours."""
    found = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if name.split(".")[-2] in ("q_proj", "k_proj"):
            values = interleaved(values, 4 if "q_proj" in name else 2)
        for theirs, own in NAMES.items():
            name = name.replace(theirs, own)
        found[name] = np.ascontiguousarray(values)
    return found


def pieces() -> list[bytes]:
    return [bytes([byte]) for byte in range(256)] + [word.encode() for word in WORDS[:9]]


def tekken(version: str = "v7", **changes: Any) -> dict[str, Any]:
    entries = [{"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
               for rank, piece in enumerate(pieces())]  # fmt: skip
    special = [{"rank": rank, "token_str": token, "is_control": True} for rank, token in enumerate(SPECIAL)]
    config = {"pattern": PATTERN, "num_vocab_tokens": len(entries), "default_vocab_size": len(entries) + 20,
              "default_num_special_tokens": 20, "version": version}  # fmt: skip
    return {"config": config, "vocab": entries, "special_tokens": special, **changes}


def write(folder: Path, tensors: dict[str, Array], **params: Any) -> None:
    save_file(tensors, folder / "consolidated.safetensors")
    (folder / "params.json").write_text(json.dumps(PARAMS | params))
    (folder / "tekken.json").write_text(json.dumps(tekken()))


def assert_the_same(folder: Path, model: transformers.PreTrainedModel) -> None:
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0]
    assert float((all_logits(load(folder, reference_ops()).model, IDS) - expected).abs().max()) < 1e-3


@pytest.mark.parametrize(("options", "params"), [({}, {}), ({"sliding_window": 40}, {"sliding_window": 40})])
def test_a_folder(options: dict[str, Any], params: dict[str, Any], tmp_path: Path) -> None:
    model = random_model(transformers.MistralConfig(**{**SIZES, "sliding_window": None, **options}))
    write(tmp_path, own_tensors(model), **params)
    assert_the_same(tmp_path, model)


def test_yarn_and_queries_that_grow(tmp_path: Path) -> None:
    config = transformers.CONFIG_MAPPING["ministral3"](**{**SIZES, "rms_norm_eps": 1e-6, "rope_parameters": YARN})
    model = random_model(config)
    yarn = {"factor": 4.0, "original_max_position_embeddings": 256, "beta": 32.0, "alpha": 1.0, "apply_scale": False}
    growing = {"original_max_position_embeddings": 256, "beta": 0.1}
    images = {"vision_encoder": {"hidden_size": 8}, "yarn": yarn, "llama_4_scaling": growing}
    tensors = own_tensors(model) | {"vision_encoder.ln_pre.weight": np.ones(8, np.float32)}
    write(tmp_path, tensors, **images)
    assert_the_same(tmp_path, model)


def test_several_files(tmp_path: Path) -> None:
    model = random_model(transformers.MistralConfig(**SIZES, sliding_window=None))
    tensors = own_tensors(model)
    write(tmp_path, tensors)
    (tmp_path / "consolidated.safetensors").unlink()
    for number in range(2):
        part = dict(list(tensors.items())[number::2])
        save_file(part, tmp_path / f"consolidated-{number + 1:05}-of-00002.safetensors")
    assert_the_same(tmp_path, model)


def test_floats_of_eight_bits(tmp_path: Path) -> None:
    """With a scale for each matrix, as Mistral writes them."""
    model = random_model(transformers.MistralConfig(**SIZES, sliding_window=None))
    tensors: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, values in own_tensors(model).items():
            if ".w" not in name.removesuffix(".weight"):
                tensors[name] = torch.from_numpy(values)
                continue
            codes = torch.from_numpy(values / 0.01).to(torch.float8_e4m3fn)
            place = name.removesuffix("weight")
            tensors |= {
                name: codes,
                f"{place}qscale_weight": torch.tensor(0.01),
                f"{place}qscale_act": torch.tensor(1.0),
            }
    from safetensors.torch import save_file as save_torch

    write(tmp_path, {}, quantization={"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"})
    save_torch(tensors, tmp_path / "consolidated.safetensors")
    plain = {
        name: small_floats(values.view(torch.uint8).numpy()) * np.float32(0.01)
        if values.dtype == torch.float8_e4m3fn
        else values.numpy()
        for name, values in tensors.items()
        if "qscale" not in name
    }
    found = all_logits(load(tmp_path, reference_ops()).model, IDS)
    write(tmp_path, plain)
    assert float((found - all_logits(load(tmp_path, reference_ops()).model, IDS)).abs().max()) < 1e-3


def test_experts(tmp_path: Path) -> None:
    config = transformers.MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2, sliding_window=None)
    model = random_model(config)
    tensors = {}
    for name, values in own_tensors(model).items():
        layer = name.partition("mlp.")[0] + "feed_forward."
        if name.endswith("experts.gate_up_proj"):
            for index, both in enumerate(values):
                gate, up = np.split(both, 2)
                tensors |= {f"{layer}experts.{index}.w1.weight": gate, f"{layer}experts.{index}.w3.weight": up}
        elif name.endswith("experts.down_proj"):
            tensors |= {f"{layer}experts.{index}.w2.weight": down for index, down in enumerate(values)}
        else:
            tensors[name.replace("mlp.gate.", "feed_forward.gate.")] = values
    params = {"moe": {"num_experts": 4, "num_experts_per_tok": 2}, "norm_eps": config.rms_norm_eps,
              "rope_theta": 1e6}  # fmt: skip
    write(tmp_path, {name: np.ascontiguousarray(values) for name, values in tensors.items()}, **params)
    assert_the_same(tmp_path, model)


def test_of_both_forms_transformers_is_taken(tmp_path: Path) -> None:
    model = random_model(transformers.MistralConfig(**{**SIZES, "vocab_size": 260}, sliding_window=None))
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    write(tmp_path, {"norm.weight": np.zeros(3, np.float32)}, some_setting=True)
    (tmp_path / "tekken.json").write_text("no JSON")
    assert_the_same(tmp_path, model)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def saying(**params: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / "params.json").write_text(json.dumps(PARAMS | params)) and None


REFUSED: dict[str, tuple[Callable[[Path], None], type[StemmaError], str]] = {
    "no weights": (without("consolidated.safetensors"), ModelNotFound, r"no consolidated.safetensors; fetch"),
    "no tokenizer": (without("tekken.json"), ModelNotFound, "neither tekken.json nor tokenizer.json"),
    "a setting": (saying(use_biases=True), UnsupportedModel, "params.json sets 'use_biases'"),
    "a setting of experts": (saying(moe={"num_shared_experts": 1}), UnsupportedModel, "'moe.num_shared_experts'"),
    "a size that is missing": (saying(hidden_dim=None), ModelFileError, "no value 'hidden_dim'"),
    "both to both sides": (saying(causal=False), UnsupportedModel, "is_causal"),
    "other floats": (saying(quantization={"qformat_weight": "int4"}), UnsupportedModel, "quantization"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_missing_or_not_run_is_told(case: str, tmp_path: Path) -> None:
    change, error, match = REFUSED[case]
    write(tmp_path, own_tensors(random_model(transformers.MistralConfig(**SIZES, sliding_window=None))))
    change(tmp_path)
    with pytest.raises(error, match=match):
        load(tmp_path, reference_ops())


# tekken.json ----------------------------------------------------------------------------------------------------------
def joined(text: bytes) -> list[bytes]:
    """Pairs joined while any makes a piece, that of the lowest rank first."""
    ranks = {piece: rank for rank, piece in enumerate(pieces())}
    parts = [text[i : i + 1] for i in range(len(text))]
    while len(parts) > 1:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], 1 << 30))
        if parts[best] + parts[best + 1] not in ranks:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def read(folder: Path, **changes: Any) -> Tokenizer:
    (folder / "tekken.json").write_text(json.dumps(tekken(**changes)))
    return Tokenizer(read_tekken(folder / "tekken.json", None), len(pieces()) + 20)


@pytest.mark.parametrize("text", ["the thing", "other é\n\nthinner", "ththe 12 the!", " the the"])
def test_pieces_are_joined_by_rank(text: str, tmp_path: Path) -> None:
    tokenizer = read(tmp_path)
    words = re.findall(r" ?[^\W\d_]+|\d| ?[^\s\w]+|\s+", text)
    expected = [pieces().index(part) + 20 for word in words for part in joined(word.encode())]
    assert tokenizer.encode(text) == expected
    assert b"".join(tokenizer.token_bytes(token) or b"" for token in expected) == text.encode()
    assert tokenizer.encode_prompt(text) == [1, *expected]


def test_text_is_never_a_special_token(tmp_path: Path) -> None:
    tokenizer = read(tmp_path)
    assert min(tokenizer.encode("[INST]<s>")) >= 20
    assert tokenizer.encode_template("[INST]") == [3]


@pytest.mark.parametrize(
    ("version", "expected"),
    [("v3", "<s>[INST]Hi[/INST]Yes.</s>[INST]Be brief.\n\nGo[/INST]"),
     ("v7", "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]Yes.</s>[INST]Go[/INST]")],
)  # fmt: skip
def test_turns_are_written_as_the_version_has_them(version: str, expected: str, tmp_path: Path) -> None:
    model = random_model(transformers.MistralConfig(**SIZES, sliding_window=None))
    write(tmp_path, own_tensors(model))
    (tmp_path / "tekken.json").write_text(json.dumps(tekken(version)))
    template = load(tmp_path, reference_ops()).chat_template
    assert template is not None
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Go"}]  # fmt: skip
    assert template.render(messages, add_generation_prompt=True) == expected


def test_an_unknown_version_has_no_chat_template_but_the_folders_own(tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(tekken("v99")))
    assert read_tekken(tmp_path / "tekken.json", None).chat_template is None
    assert read_tekken(tmp_path / "tekken.json", "{{ messages }}").chat_template == "{{ messages }}"


@pytest.mark.parametrize("content", ["{}", "[", '{"config": {}, "vocab": []}'])
def test_a_damaged_file_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text(content)
    with pytest.raises(ModelFileError, match="fetch it again"):
        read_tekken(tmp_path / "tekken.json", None)
