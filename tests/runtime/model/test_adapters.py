"""Adapters of low rank, PEFT's folders and GGUF files, against matrices that are changed here by the definition."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from safetensors.torch import save_file

from stemma.kernels.weights import dequantize
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest, ModelError, ModelFileError, ModelNotFound, UnsupportedModel
from stemma.runtime.model import load
from stemma.runtime.model.files.adapters.merge import merged
from stemma.runtime.model.files.adapters.read import read_adapter
from stemma.runtime.model.load import read_checkpoint
from tests.runtime.model.gguf_writing import interleaved, write_gguf
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_gguf_file import IDS, random_model
from tests.runtime.model.test_hugging_face import write_folder

Array = npt.NDArray[np.float32]
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"]}
SHAPES = {"model.layers.0.self_attn.q_proj": (64, 64), "model.layers.1.mlp.down_proj": (64, 128)}


def pair(shape: tuple[int, int], rank: int, seed: int = 0) -> tuple[Array, Array]:
    """A (rank, inputs) and B (outputs, rank)."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(rank, shape[1])).astype(np.float32),
            random.normal(size=(shape[0], rank)).astype(np.float32))  # fmt: skip


def write_adapter(folder: Path, ranks: dict[str, int], more: dict[str, Array] | None = None, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    tensors = {}
    for name, rank in ranks.items():
        down, up = pair(SHAPES[name], rank)
        tensors |= {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
    tensors |= {f"base_model.model.{name}": values for name, values in (more or {}).items()}
    save_file(
        {name: torch.from_numpy(values) for name, values in tensors.items()}, folder / "adapter_model.safetensors"
    )
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **changes}))
    return folder


def changed(model: Path, adapter: Path) -> dict[str, Array]:
    """What an adapter makes of a model's matrices, those that differ."""
    before = read_checkpoint(model)
    after = merged(before, read_adapter(adapter, before.config))
    values = {name: dequantize(tensor) for name, tensor in after.tensors.items()}
    return {name: new for name, new in values.items() if not np.array_equal(new, dequantize(before.tensors[name]))}


def base(model: Path, name: str) -> Array:
    values: Array = dequantize(read_checkpoint(model).tensors[name])
    return values


def test_scales_of_plain_and_stabilised_adapters_and_patterns(tmp_path: Path) -> None:
    """alpha / r, or alpha / sqrt(r); ranks and alphas of their own for modules whose names end so."""
    model = write_folder(tmp_path)
    q_proj, down_proj = SHAPES
    patterns = {"rank_pattern": {"layers.1.mlp.down_proj": 2}, "alpha_pattern": {"q_proj": 3, "mlp.*": 5}}
    cases = [
        ({}, {q_proj: (4, 6 / 4), down_proj: (4, 6 / 4)}),
        ({"use_rslora": True}, {q_proj: (4, 6 / 2), down_proj: (4, 6 / 2)}),
        (patterns, {q_proj: (4, 3 / 4), down_proj: (2, 5 / 2)}),
        ({**patterns, "use_rslora": True}, {q_proj: (4, 3 / 2), down_proj: (2, 5 / 2**0.5)}),
    ]
    for number, (settings, expected) in enumerate(cases):
        ranks = {name: rank for name, (rank, _) in expected.items()}
        found = changed(model, write_adapter(tmp_path / str(number), ranks, **settings))
        assert set(found) == {f"{name}.weight" for name in SHAPES}
        for name, (rank, scale) in expected.items():
            down, up = pair(SHAPES[name], rank)
            np.testing.assert_allclose(
                found[f"{name}.weight"], base(model, f"{name}.weight") + scale * up @ down, 1e-4, 1e-4
            )


def test_lengths_of_outputs(tmp_path: Path) -> None:
    """DoRA: every output has the length that the adapter says."""
    model = write_folder(tmp_path)
    (name, *_), lengths = SHAPES, np.random.default_rng(1).uniform(1, 2, 64).astype(np.float32)
    more = {f"{name}.lora_magnitude_vector": lengths}
    found = changed(model, write_adapter(tmp_path / "adapter", {name: 4}, more, use_dora=True))[f"{name}.weight"]
    down, up = pair(SHAPES[name], 4)
    plain = base(model, f"{name}.weight") + 1.5 * up @ down
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), lengths, 1e-5)
    np.testing.assert_allclose(found / lengths[:, None], plain / np.linalg.norm(plain, axis=1)[:, None], 1e-3, 1e-5)


def test_modules_that_are_saved_whole(tmp_path: Path) -> None:
    model, head = write_folder(tmp_path), np.random.default_rng(1).normal(size=(260, 64)).astype(np.float32)
    adapter = write_adapter(tmp_path / "adapter", {}, {"lm_head.weight": head}, modules_to_save=["lm_head"])
    assert np.array_equal(changed(model, adapter)["lm_head.weight"], head)


def test_several_are_merged_in_order_and_run(tmp_path: Path) -> None:
    model = write_folder(tmp_path)
    q_proj, down_proj = SHAPES
    one, two = (write_adapter(tmp_path / name, {name: 4}) for name in SHAPES)
    both = write_adapter(tmp_path / "both", {q_proj: 4, down_proj: 4})
    ids = [257, *b"user\nHello", 256]
    want = all_logits(load(model, reference_ops(), adapters=[both]).model, ids)
    found = all_logits(load(str(model), reference_ops(), adapters=(one, str(two))).model, ids)
    assert torch.equal(found, want)
    assert not torch.allclose(found, all_logits(load(model, reference_ops()).model, ids), atol=0.1)


def test_an_engine_takes_adapters(tmp_path: Path) -> None:
    model, adapter = write_folder(tmp_path), write_adapter(tmp_path / "adapter", {next(iter(SHAPES)): 4})
    with Engine(model, adapters=[adapter], backend="reference", kv_tokens=256) as changed_engine:
        with Engine.of(load(model, reference_ops(), adapters=[adapter]), kv_tokens=256) as same:
            ids = changed_engine.generate("Hello", max_tokens=8).tokens
            assert ids == same.generate("Hello", max_tokens=8).tokens
        with Engine(model, backend="reference", kv_tokens=256) as plain:
            assert ids != plain.generate("Hello", max_tokens=8).tokens
    with pytest.raises(InvalidRequest, match="adapters must be"):
        Engine(model, adapters=str(adapter))


# GGUF ---------------------------------------------------------------------------------------------------------------
def write_gguf_adapter(path: Path, changes: dict[str, tuple[Array, Array]], alpha: float, **more: str) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {"general.type": "adapter", "adapter.type": "lora", **more}.items():
        writer.add_string(key, value)
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, (down, up) in changes.items():
        writer.add_tensor(f"{name}.lora_a", down)
        writer.add_tensor(f"{name}.lora_b", up)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_a_gguf_adapter_of_a_gguf_model(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows of Q interleaved in B as llama.cpp's converter does, against transformers with the changed matrices."""
    theirs = random_model(transformers.LlamaConfig)
    write_gguf(tmp_path / "model.gguf", theirs, kind)
    attention, mlp = pair((256, 256), 3, 1), pair((256, 256), 3, 2)
    changes = {"blk.0.attn_q.weight": (attention[0], interleaved(attention[1], 4)), "blk.1.ffn_down.weight": mlp}
    write_gguf_adapter(tmp_path / "adapter.gguf", changes, 0.3)
    with torch.no_grad():
        theirs.model.layers[0].self_attn.q_proj.weight += torch.from_numpy(0.1 * attention[1] @ attention[0])
        theirs.model.layers[1].mlp.down_proj.weight += torch.from_numpy(0.1 * mlp[1] @ mlp[0])
        want = theirs(torch.tensor([IDS])).logits[0]
    with caplog.at_level(logging.WARNING):
        loaded = load(tmp_path / "model.gguf", reference_ops(), adapters=[tmp_path / "adapter.gguf"])
    assert float((all_logits(loaded.model, IDS) - want).abs().max()) < (1e-3 if kind == "F32" else 2e-2)
    assert ("2 quantised matrices" in caplog.text) == (kind == "Q8_0")


# What is refused ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"peft_type": "LOHA"}, UnsupportedModel, "'peft_type' to 'LOHA'"),
        ({"bias": "all"}, UnsupportedModel, "'bias' to 'all'"),
        ({"lora_bias": True}, UnsupportedModel, "'lora_bias' to True"),
        ({"init_lora_weights": "pissa"}, UnsupportedModel, "'init_lora_weights' to 'pissa'"),
        ({"layer_replication": [[0, 1]]}, UnsupportedModel, "'layer_replication'"),
        ({"fan_in_fan_out": True}, UnsupportedModel, "'fan_in_fan_out'"),
        ({"trainable_token_indices": [1]}, UnsupportedModel, "'trainable_token_indices'"),
        ({"use_dora": True}, ModelFileError, "only a part of what changes 'model.layers.0.self_attn.q_proj'"),
        ({"r": 5}, ModelFileError, "a rank of 5"),
    ],
)
def test_refused_by_name(changes: dict[str, Any], error: type[ModelError], words: str, tmp_path: Path) -> None:
    model, adapter = write_folder(tmp_path), write_adapter(tmp_path / "adapter", {next(iter(SHAPES)): 4}, **changes)
    with pytest.raises(error, match=words):
        changed(model, adapter)


def test_an_adapter_of_another_model_is_told(tmp_path: Path) -> None:
    model, other = write_folder(tmp_path), np.zeros((3, 64), np.float32)
    adapter = write_adapter(tmp_path / "adapter", {}, {"model.layers.9.mlp.up_proj.weight": other})
    with pytest.raises(UnsupportedModel, match=r"changes 'model\.layers\.9\.mlp\.up_proj\.weight'"):
        changed(model, adapter)
    adapter = write_adapter(tmp_path / "adapter", {}, {"lm_head.weight": other})
    with pytest.raises(ModelFileError, match=r"has \(3, 64\) for 'lm_head\.weight', but the model \(260, 64\)"):
        changed(model, adapter)
    adapter = write_adapter(tmp_path / "adapter", {}, {"model.embed_tokens.lora_embedding_A": other})
    with pytest.raises(UnsupportedModel, match="lora_embedding_A' is not merged"):
        changed(model, adapter)


def test_what_is_no_adapter_is_told(tmp_path: Path) -> None:
    model = write_folder(tmp_path)
    write_gguf(tmp_path / "model.gguf", random_model(transformers.LlamaConfig))
    with pytest.raises(UnsupportedModel, match="no adapter of type lora"):
        changed(model, tmp_path / "model.gguf")
    with pytest.raises(ModelNotFound, match=r"has no adapter_model\.safetensors"):
        changed(model, model)
    with pytest.raises(ModelNotFound, match="there is no adapter"):
        changed(model, tmp_path / "absent")
    write_gguf_adapter(tmp_path / "a.gguf", {}, 1.0)
    with pytest.raises(ModelFileError, match=r"pairs of \.lora_a and \.lora_b"):
        changed(model, tmp_path / "a.gguf")
    write_gguf_adapter(tmp_path / "b.gguf", {"token_embd.weight": pair((260, 64), 2)}, 1.0)
    with pytest.raises(UnsupportedModel, match=r"'token_embd\.weight', which is not merged"):
        changed(model, tmp_path / "b.gguf")
