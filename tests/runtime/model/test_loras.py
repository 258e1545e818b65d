"""Adapters beside a model say what they say when they are merged into it; and what cannot stand beside is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from stemma.kernels.ops import Ops
from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import InvalidRequest, ModelFileError, UnsupportedModel
from stemma.runtime.model import LoadedModel, Span, load
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.files.adapters.merge import Adapter, Change, merged
from stemma.runtime.model.files.adapters.named import lora_of
from stemma.runtime.model.load import assemble, read_checkpoint
from tests.kernels.on_tensors import tensor_ops
from tests.runtime.model.gguf_writing import interleaved, write_gguf
from tests.runtime.model.lora_making import adapter_of
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_adapters import SHAPES, pair, write_adapter, write_gguf_adapter
from tests.runtime.model.test_families import configuration
from tests.runtime.model.test_gguf_file import random_model
from tests.runtime.model.test_hugging_face import write_folder
from tests.runtime.model.test_logits import save

IDS = np.random.default_rng(3).integers(0, 256, 40).tolist()
FAMILIES = {
    "llama": ".", "phi3": ".", "gemma2": ".", "cohere2": ".", "starcoder2": ".", "glm4": ".", "olmo2": ".",
    "qwen3_moe": "self_attn", "deepseek_v3": r"(q_[ab]|kv_a|o)_proj",
    "qwen3_next": "_attn", "qwen3_5_text": ".", "lfm2": ".", "granitemoehybrid": ".",
    "nemotron_h": "(in|out|[qkvo])_proj",
}  # fmt: skip
"""Families that differ in how they use a product, and which matrices an adapter changes, besides the head."""


def beside(checkpoint: Checkpoint, ops: Ops, **adapters: Adapter) -> LoadedModel:
    loras = {name: lora_of(checkpoint, name, adapter) for name, adapter in adapters.items()}
    return assemble(checkpoint, ops, loras=loras)


def logits(loaded: LoadedModel, *spans: Span) -> torch.Tensor:
    assert loaded.loras is not None
    with loaded.loras.step(spans):
        return all_logits(loaded.model, IDS).clone()


@pytest.mark.parametrize(("family", "backend"), [*((family, "reference") for family in FAMILIES), ("llama", "cpu")])
def test_beside_is_as_merged(family: str, backend: str, tmp_path: Path) -> None:
    save(tmp_path, configuration(family, 0))
    checkpoint = read_checkpoint(tmp_path)
    ops = reference_ops() if backend == "reference" else tensor_ops(kv_dtype="float32")
    names = rf"(layers\..*{FAMILIES[family]}.*(proj|fc)\w*|lm_head)\.weight"
    one, two = adapter_of(checkpoint, 1, names), adapter_of(checkpoint, 2, names, rank=5)
    loaded, plain = beside(checkpoint, ops, one=one, two=two), assemble(checkpoint, ops)
    without = all_logits(plain.model, IDS).clone()
    assert torch.equal(logits(loaded), without)
    for name, adapter in (("one", one), ("two", two)):
        want = all_logits(assemble(merged(checkpoint, adapter), ops).model, IDS).clone()
        found = logits(loaded, Span(name, 0, len(IDS)))
        assert float((found - want).abs().max()) < 1e-3
        assert float((found - without).abs().max()) > 0.01


def test_files_of_peft_and_gguf(tmp_path: Path) -> None:
    """Stabilised scales; rows of Q as llama.cpp's converter leaves them, matrices that are packed."""
    model = write_folder(tmp_path)
    adapter = write_adapter(tmp_path / "adapter", dict.fromkeys(SHAPES, 2), r=2, use_rslora=True)
    want = all_logits(load(model, reference_ops(), adapters=[adapter]).model, IDS)
    found = logits(load(model, reference_ops(), loras={"a": adapter}), Span("a", 0, len(IDS)))
    assert float((found - want).abs().max()) < 1e-3

    theirs = random_model(transformers.LlamaConfig)
    write_gguf(tmp_path / "model.gguf", theirs, "Q8_0")
    down, up = pair((256, 256), 3, 1)
    write_gguf_adapter(tmp_path / "a.gguf", {"blk.0.attn_q.weight": (down, interleaved(up, 4))}, 0.3)
    with torch.no_grad():
        theirs.model.layers[0].self_attn.q_proj.weight += torch.from_numpy(0.1 * up @ down)
        want = theirs(torch.tensor([IDS])).logits[0]
    loaded = load(tmp_path / "model.gguf", reference_ops(), loras={"a": tmp_path / "a.gguf"})
    assert float((logits(loaded, Span("a", 0, len(IDS))) - want).abs().max()) < 2e-2


@pytest.mark.parametrize(
    ("family", "pattern", "words"),
    [
        ("qwen3_moe", r"experts\.3\.up_proj", r"'model\.layers\.0\.mlp\.experts\.3\.up_proj\.weight'.* mixture"),
        ("qwen3_moe", r"layers\.0\.mlp\.gate\.", r"'model\.layers\.0\.mlp\.gate\.weight'.* mixture"),
        ("deepseek_v3", "kv_b_proj", r"kv_b_proj\.weight'.* multiplied into others"),
    ],
)
def test_what_is_no_product_of_its_own_is_refused(family: str, pattern: str, words: str, tmp_path: Path) -> None:
    save(tmp_path, configuration(family, 0))
    checkpoint = read_checkpoint(tmp_path)
    with pytest.raises(UnsupportedModel, match=words):
        beside(checkpoint, reference_ops(), a=adapter_of(checkpoint, 1, pattern))


def test_what_changes_more_than_a_product_is_refused(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_folder(tmp_path))
    adapter = adapter_of(checkpoint, 1, r"layers\.0\.self_attn\.q_proj")
    ((name, change),) = adapter.changes.items()
    lengths = replace(change, lengths=np.ones(64, np.float32))
    infinite = Change(change.down, change.up * np.float32("inf"), 1.0)
    head = StoredWeight("F32", (260, 64), np.zeros((260, 64), np.float32))
    refused: list[tuple[type[Exception], str, Adapter]] = [
        (UnsupportedModel, "DoRA.*--adapter", Adapter("a", {name: lengths}, {})),
        (UnsupportedModel, r"'lm_head\.weight'.*modules_to_save", Adapter("a", {}, {"lm_head.weight": head})),
        (ModelFileError, "NaN or infinite", Adapter("a", {name: infinite}, {})),
        (UnsupportedModel, "made for another model", Adapter("a", {"model.layers.9.x.weight": change}, {})),
        (ModelFileError, r"\(64, 64\) for 'lm_head", Adapter("a", {"lm_head.weight": change}, {})),
    ]
    for error, words, wrong in refused:
        with pytest.raises(error, match=words):
            lora_of(checkpoint, "a", wrong)
    with pytest.raises(InvalidRequest, match="an adapter's name"):
        load(tmp_path, reference_ops(), loras={"a b": tmp_path})


def test_a_digest_is_of_the_numbers(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_folder(tmp_path))
    digests = [lora_of(checkpoint, name, adapter_of(checkpoint, seed)).digest for name, seed in (("a", 1), ("b", 1))]
    assert digests[0] == digests[1] != lora_of(checkpoint, "a", adapter_of(checkpoint, 2)).digest
