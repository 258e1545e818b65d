"""GGUF files against transformers: every storage type, every family, both ways to say a rotary scaling, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import transformers

from stemma.kernels.weights import FORMATS
from stemma.runtime.errors import ModelFileError, ModelNotFound, UnsupportedModel
from stemma.runtime.model import load
from stemma.runtime.model.load import read_checkpoint
from stemma.runtime.model.parts.scalings import llama3_factors
from tests.runtime.model.gguf_writing import write_gguf
from tests.runtime.model.running import all_logits, reference_ops

SIZES: dict[str, Any] = {
    "vocab_size": 261, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 512, "initializer_range": 0.1,
}  # fmt: skip
IDS = list(range(3, 120))


def random_model(kind: type[transformers.PreTrainedConfig], **options: Any) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(kind(**SIZES, **options)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.normal_(1.0, 0.2)
    return model


def assert_same_logits(path: Path, theirs: transformers.PreTrainedModel) -> None:
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    found = all_logits(load(path, reference_ops()).model, IDS)
    assert float(expected.std()) > 0.1
    assert float((found - expected).abs().max()) < 1e-3


@pytest.mark.parametrize(
    "kind", ["F32", "F16", "BF16", *(kind for kind in FORMATS if kind in gguf.GGMLQuantizationType.__members__)]
)
def test_every_storage_type(kind: str, tmp_path: Path) -> None:
    model = random_model(transformers.LlamaConfig)
    write_gguf(tmp_path / "model.gguf", model, kind)
    assert_same_logits(tmp_path / "model.gguf", model)


@pytest.mark.parametrize("kind", [transformers.Qwen2Config, transformers.Qwen3Config])
def test_other_families_keep_their_rows(kind: type[transformers.PreTrainedConfig], tmp_path: Path) -> None:
    model = random_model(kind, tie_word_embeddings=True)
    write_gguf(tmp_path / "model.gguf", model, "Q8_0")
    assert_same_logits(tmp_path / "model.gguf", model)


def test_llama_with_biases(tmp_path: Path) -> None:
    model = random_model(transformers.LlamaConfig, attention_bias=True)
    write_gguf(tmp_path / "model.gguf", model)
    assert_same_logits(tmp_path / "model.gguf", model)


def test_rope_factors_are_llama3s(tmp_path: Path) -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    model = random_model(
        transformers.LlamaConfig, rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, **scaling}
    )
    factors = 1 / model.model.rotary_emb.inv_freq / 10000.0 ** (torch.arange(0, 64, 2) / 64)
    write_gguf(tmp_path / "model.gguf", model, rope_factors=factors.numpy())
    assert_same_logits(tmp_path / "model.gguf", model)
    expected = pytest.approx(llama3_factors(10000.0, 64, 8.0, 1.0, 4.0, 64), rel=1e-5)
    assert read_checkpoint(tmp_path / "model.gguf").config.rope.factors == expected


def test_linear_scaling(tmp_path: Path) -> None:
    model = random_model(
        transformers.LlamaConfig, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    )
    write_gguf(tmp_path / "model.gguf", model, scalars={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})
    assert_same_logits(tmp_path / "model.gguf", model)


def test_text_parts_of_the_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "mine-F16.gguf", random_model(transformers.LlamaConfig))
    loaded = load(tmp_path / "mine-F16.gguf", reference_ops())
    assert (loaded.name, loaded.config.name) == ("mine", "random")
    assert loaded.generation.eos_ids == (256,)
    assert loaded.tokenizer.bos_id == 258
    assert loaded.tokenizer.encode("the<|end|>") == [260, *b"e<|end|>"]
    assert loaded.chat_template is not None
    ids = loaded.chat_template.encode_chat([{"role": "user", "content": "<|end|>"}], add_generation_prompt=False)
    assert ids == [257, *b"user\n<|end|>", 256, *b"\n"]


def test_the_template_for_tools(tmp_path: Path) -> None:
    write_gguf(
        tmp_path / "model.gguf", random_model(transformers.LlamaConfig), tool_template="tools {{ tools | length }}"
    )
    template = load(tmp_path / "model.gguf", reference_ops()).chat_template
    assert template is not None
    chat = [{"role": "user", "content": "x"}]
    assert template.render(chat, tools=[{"name": "f"}]) == "tools 1"
    assert template.render(chat).startswith("<|start|>user")


def test_a_scaling_that_is_not_known_is_refused(tmp_path: Path) -> None:
    scalars = {"rope.scaling.type": "mrope", "rope.scaling.factor": 4.0}
    write_gguf(tmp_path / "model.gguf", random_model(transformers.LlamaConfig), scalars=scalars)
    with pytest.raises(UnsupportedModel, match=r"mrope.*supported: linear, yarn"):
        read_checkpoint(tmp_path / "model.gguf")


def test_a_storage_type_that_is_not_known_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", random_model(transformers.LlamaConfig))
    content = (tmp_path / "model.gguf").read_bytes()
    entry = b"output_norm.weight" + (1).to_bytes(4, "little") + (256).to_bytes(8, "little")
    assert content.count(entry + bytes(4)) == 1
    for type_, said in ((15, "stored as Q8_K; use a file with one of: BF16"), (31, "type 31"), (99, "type 99")):
        changed = content.replace(entry + bytes(4), entry + type_.to_bytes(4, "little"))
        (tmp_path / "other.gguf").write_bytes(changed)
        with pytest.raises(UnsupportedModel, match=said):
            load(tmp_path / "other.gguf", reference_ops())


@pytest.mark.parametrize("keep", [0, 10, 30, 1000, 5000, -100])
def test_a_file_cut_short_is_refused(keep: int, tmp_path: Path) -> None:
    whole = tmp_path / "model.gguf"
    write_gguf(whole, random_model(transformers.LlamaConfig))
    (tmp_path / "cut.gguf").write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="fetch it again"):
        read_checkpoint(tmp_path / "cut.gguf")


def test_another_file_with_that_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"no model at all, but long enough to be one")
    with pytest.raises(ModelFileError, match="not a GGUF file"):
        read_checkpoint(tmp_path / "model.gguf")


def test_an_absent_file_says_what_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"a \.gguf file, a model folder, or a hub id"):
        read_checkpoint(tmp_path / "absent.gguf")
