"""Folders quantised by each method: packed here from the formats' definitions, number by number, and read exactly."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model import load
from stemma.runtime.model.files.hugging_face import read_hugging_face
from tests.runtime.model.family_cases import SHARED
from tests.runtime.model.quantised_folders import (
    E2M1,
    INPUTS,
    NAME,
    OUTPUTS,
    Array,
    Parts,
    assert_reads,
    compressed,
    halves,
    read,
    words,
)
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_hugging_face import write, write_folder
from tests.runtime.model.test_logits import save


# GPTQ ---------------------------------------------------------------------------------------------------------------
def gptq(bits: int, group: int, stored_less: int, zeros: Array | None = None) -> tuple[Parts, Array]:
    random = np.random.default_rng(bits)
    groups = INPUTS // group
    codes = random.integers(0, 1 << bits, (INPUTS, OUTPUTS))
    scales = halves(random, groups, OUTPUTS)
    zeros = random.integers(1, 1 << bits, (groups, OUTPUTS)) if zeros is None else zeros
    order = np.arange(INPUTS) // group
    parts = {
        "qweight": words(codes, bits, 0), "qzeros": words(zeros - stored_less, bits, 1),
        "scales": torch.from_numpy(scales), "g_idx": torch.from_numpy(order.astype(np.int32)),
    }  # fmt: skip
    return parts, (scales[order].astype(np.float32) * (codes - zeros[order])).T


def gptq_config(bits: int, group: int, **more: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": False, "sym": False, **more}


@pytest.mark.parametrize(("bits", "group"), [(4, 128), (4, 32), (3, 64), (2, 32)])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
def test_gptq(bits: int, group: int, form: str, tmp_path: Path) -> None:
    parts, want = gptq(bits, group, 1 if form == "gptq" else 0)
    assert_reads(read(tmp_path, parts, gptq_config(bits, group, checkpoint_format=form)), want, "INT4")


def test_gptq_without_the_order_and_with_a_file_of_its_own(tmp_path: Path) -> None:
    parts, want = gptq(4, 32, 1)
    del parts["g_idx"]
    parts["bias"] = torch.zeros(OUTPUTS)  # which AutoGPTQ writes for modules without
    config = {key: value for key, value in gptq_config(4, 32).items() if key != "quant_method"}
    assert_reads(read(tmp_path, parts, config, beside=True), want, "INT4")


def test_gptq_of_bytes(tmp_path: Path) -> None:
    parts, want = gptq(8, 32, 1, np.full((4, OUTPUTS), 128))
    assert_reads(read(tmp_path, parts, gptq_config(8, 32)), want, "INT8")


def test_what_no_block_holds_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An order of activations, and zeros of bytes: floats as GPTQ's kernels round them."""
    parts, _ = gptq(4, 32, 1)
    random = np.random.default_rng(0)
    order = random.permutation(np.arange(INPUTS) // 32)
    codes = random.integers(0, 16, (INPUTS, OUTPUTS))
    zeros, scales = random.integers(1, 16, (4, OUTPUTS)), halves(random, 4, OUTPUTS)
    parts = {"qweight": words(codes, 4, 0), "qzeros": words(zeros - 1, 4, 1), "scales": torch.from_numpy(scales),
             "g_idx": torch.from_numpy(order.astype(np.int32))}  # fmt: skip
    want = (scales[order] * (codes - zeros[order]).astype(np.float16)).T
    with caplog.at_level(logging.WARNING):
        found = read(tmp_path, parts, gptq_config(4, 32, desc_act=True))
    assert_reads(found, want, "F16")
    assert_ordered(found[f"{NAME}.weight"], (scales[order].astype(np.float32) * (codes - zeros[order])).T, order)
    assert "1 matrices quantised by gptq are read as floats: the order of activations" in caplog.text
    parts, want = gptq(8, 32, 1)
    rounded = want.astype(np.float16)
    assert_reads(read(tmp_path, parts, gptq_config(8, 32)), rounded, "F16")


def assert_ordered(weight: StoredWeight, want: Array, groups: Array) -> None:
    """Codes stand beside the floats, each group's inputs together; of what is made of the floats nothing does."""
    assert weight.packed is not None
    assert weight.packed.weight.type == "INT4"
    order = weight.packed.order
    assert (np.diff(groups[order]) >= 0).all()
    np.testing.assert_allclose(dequantize(weight.packed.weight), want[:, order], rtol=1e-6, atol=1e-6)
    some = weight.rows(slice(1, 5)).packed
    assert some is not None
    np.testing.assert_allclose(dequantize(some.weight), want[1:5, order], rtol=1e-6, atol=1e-6)
    assert replace(weight, data=weight.data[:, ::-1]).packed is None
    assert weight.times(2.0).packed is None


# AWQ ----------------------------------------------------------------------------------------------------------------
def awq_words(codes: Array) -> torch.Tensor:
    """(n, outputs): eight outputs a word, of which the lowest four bits hold output 0, the next 2, 4, 6, 1, 3, 5, 7."""
    packed = np.zeros((codes.shape[0], codes.shape[1] // 8), dtype=np.uint32)
    for output in range(codes.shape[1]):
        place = (0, 2, 4, 6, 1, 3, 5, 7).index(output % 8)
        packed[:, output // 8] |= codes[:, output].astype(np.uint32) << np.uint32(4 * place)
    return torch.from_numpy(packed.view(np.int32))


@pytest.mark.parametrize(("group", "type_"), [(64, "INT4"), (16, "F16")])
def test_awq(group: int, type_: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes, zeros = random.integers(0, 16, (INPUTS, OUTPUTS)), random.integers(0, 16, (INPUTS // group, OUTPUTS))
    scales = halves(random, INPUTS // group, OUTPUTS)
    parts = {"qweight": awq_words(codes), "qzeros": awq_words(zeros), "scales": torch.from_numpy(scales)}
    order = np.arange(INPUTS) // group
    want = (scales[order].astype(np.float32) * (codes - zeros[order])).T
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    assert_reads(read(tmp_path, parts, config), want.astype(np.float16) if type_ == "F16" else want, type_)


def by_gptqmodel(form: str, method: str, **more: Any) -> dict[str, Any]:
    """What GPTQModel 7.7 writes."""
    return {
        "bits": 4, "checkpoint_format": form, "desc_act": False, "format": form, "group_size": 32, "lm_head": False,
        "method": method, "pack_dtype": "int32", "quant_method": method, "meta": {"quantizer": ["gptqmodel:7.7.0"]},
        **more,
    }  # fmt: skip


def test_settings_of_gptqmodel(tmp_path: Path) -> None:
    """AWQ without zeros of their own has zeros of 8 all the same."""
    random = np.random.default_rng(1)
    codes, scales = random.integers(0, 16, (INPUTS, OUTPUTS)), halves(random, INPUTS // 32, OUTPUTS)
    zeros = np.full((INPUTS // 32, OUTPUTS), 8)
    want = (scales[np.arange(INPUTS) // 32].astype(np.float32) * (codes - 8)).T
    for name in ("awq", "gptq"):
        (tmp_path / name).mkdir()
    parts = {"qweight": awq_words(codes), "qzeros": awq_words(zeros), "scales": torch.from_numpy(scales)}
    config = by_gptqmodel("gemm", "awq", zero_point=False, version="gemm")
    assert_reads(read(tmp_path / "awq", parts, config), want, "INT4")
    parts, want = gptq(4, 32, 1)
    assert_reads(read(tmp_path / "gptq", parts, by_gptqmodel("gptq", "gptq", sym=True)), want, "INT4")


# FP8 ----------------------------------------------------------------------------------------------------------------
def test_squares_of_small_floats(tmp_path: Path) -> None:
    """Scales of squares, of which the last ones stand over the edges."""
    codes = torch.randn(OUTPUTS, INPUTS).to(torch.float8_e4m3fn)
    scales = np.random.default_rng(0).uniform(0.01, 0.1, (2, 2)).astype(np.float32)
    by_weight = np.repeat(np.repeat(scales, 48, axis=0), 96, axis=1)[:OUTPUTS, :INPUTS]
    config = {"quant_method": "fp8", "weight_block_size": [48, 96], "fmt": "e4m3", "activation_scheme": "dynamic"}
    parts = {"weight": codes, "weight_scale_inv": torch.from_numpy(scales)}
    assert_reads(read(tmp_path, parts, config), by_weight * codes.float().numpy(), "FP8")


@pytest.mark.parametrize("method", ["fp8", "fbgemm_fp8", "modelopt"])
def test_one_scale_for_a_matrix_of_small_floats(method: str, tmp_path: Path) -> None:
    codes = torch.randn(OUTPUTS, INPUTS).to(torch.float8_e4m3fn)
    parts = {"weight": codes, "weight_scale": torch.tensor(0.03), "input_scale": torch.tensor(1.0)}
    want = np.float32(0.03) * codes.float().numpy()
    assert_reads(read(tmp_path, parts, {"quant_method": method}), want, "FP8")
    with pytest.raises(ModelFileError, match=f"no scales for '{NAME}.weight'"):
        read(tmp_path, {"weight": codes}, {"quant_method": method})


# MXFP4 --------------------------------------------------------------------------------------------------------------
def test_powers_of_two(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 16, (OUTPUTS, INPUTS // 32, 32))
    exponents = random.integers(120, 130, (OUTPUTS, INPUTS // 32), dtype=np.uint8)
    blocks = (codes[..., 0::2] | (codes[..., 1::2] << 4)).astype(np.uint8)
    want = E2M1[codes] * np.exp2(exponents.astype(np.float32) - 127)[..., None]
    folder = write_folder(
        tmp_path, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    )
    tensors = load_file(folder / "model.safetensors")
    del tensors[f"{NAME}.weight"]
    tensors |= {f"{NAME}.weight_blocks": torch.from_numpy(blocks), f"{NAME}.weight_scales": torch.from_numpy(exponents)}
    save_file(tensors, folder / "model.safetensors")
    assert_reads(dict(read_hugging_face(folder).tensors), want.reshape(OUTPUTS, INPUTS), "MXFP4")


def test_experts_of_gpt_oss_as_they_are_published(tmp_path: Path) -> None:
    """Rows of gates and ups alternate, inputs last; transformers' own matrices have the inputs first."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_local_experts": 4, "num_experts_per_tok": 2}
    config = transformers.GptOssConfig(**{**SHARED, **sizes, "rope_parameters": {"rope_type": "default",
                                                                                 "rope_theta": 1e4}})  # fmt: skip
    model, random = save(tmp_path, config), np.random.default_rng(2)
    tensors = load_file(tmp_path / "model.safetensors")
    parameters = dict(model.named_parameters())
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        count, inputs, outputs = tensors.pop(name).shape
        codes = random.integers(0, 16, (count, outputs, inputs // 32, 32))
        exponents = random.integers(122, 125, codes.shape[:3], dtype=np.uint8)
        values = E2M1[codes] * np.exp2(exponents.astype(np.float32) - 127)[..., None]
        with torch.no_grad():
            parameters[name].copy_(torch.from_numpy(values.reshape(count, outputs, inputs)).transpose(1, 2))
        tensors[f"{name}_blocks"] = torch.from_numpy((codes[..., 0::2] | (codes[..., 1::2] << 4)).astype(np.uint8))
        tensors[f"{name}_scales"] = torch.from_numpy(exponents)
    save_file(tensors, tmp_path / "model.safetensors")
    said = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    write(tmp_path / "config.json", said | {"quantization_config": {"quant_method": "mxfp4"}})
    ids = random.integers(0, 260, 50).tolist()
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0]
    assert float((all_logits(load(tmp_path, reference_ops()).model, ids) - want).abs().max()) < 1e-3


# bitsandbytes -------------------------------------------------------------------------------------------------------
def bnb_parts(nested: bool, random: np.random.Generator) -> tuple[Parts, Array]:
    """Table, scales of 64 in a row, and perhaps a table of scales: places of four bits, the first of two high."""
    codes = random.integers(0, 16, OUTPUTS * INPUTS)
    table = np.sort(random.uniform(-1, 1, 16)).astype(np.float32)
    count = len(codes) // 64
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [OUTPUTS, INPUTS]}
    parts = {
        "weight": torch.from_numpy((codes[0::2] << 4 | codes[1::2]).astype(np.uint8)[:, None]),
        "weight.quant_map": torch.from_numpy(table),
    }  # fmt: skip
    scales = random.uniform(0.1, 1, count).astype(np.float32)
    if nested:
        places, outer = random.integers(0, 256, count), random.uniform(0.1, 1, -(-count // 32)).astype(np.float32)
        inner = np.sort(random.uniform(0, 1, 256)).astype(np.float32)
        scales = inner[places] * outer[np.arange(count) // 32] + np.float32(0.25)
        state |= {"nested_blocksize": 32, "nested_offset": 0.25, "nested_dtype": "float32"}
        parts |= {
            "weight.absmax": torch.from_numpy(places.astype(np.uint8)),
            "weight.nested_absmax": torch.from_numpy(outer), "weight.nested_quant_map": torch.from_numpy(inner),
        }  # fmt: skip
    else:
        parts["weight.absmax"] = torch.from_numpy(scales)
    written = np.frombuffer(json.dumps(state).encode(), dtype=np.uint8).copy()
    parts["weight.quant_state.bitsandbytes__nf4"] = torch.from_numpy(written)
    values = torch.from_numpy(table[codes] * np.repeat(scales, 64)).reshape(OUTPUTS, INPUTS)
    return parts, values.to(torch.bfloat16).float().numpy()


@pytest.mark.parametrize("nested", [True, False])
def test_tables_of_floats(nested: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts, want = bnb_parts(nested, np.random.default_rng(0))
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    with caplog.at_level(logging.WARNING):
        assert_reads(read(tmp_path, parts, config), want, "BF16")
    assert "NF4 is a table of floats" in caplog.text
    parts["weight.quant_state.bitsandbytes__nf4"] = torch.zeros(4, dtype=torch.uint8)
    with pytest.raises(ModelFileError, match="bitsandbytes__nf4 is damaged"):
        read(tmp_path, parts, config)


def test_bytes_of_bitsandbytes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(-127, 128, (OUTPUTS, INPUTS), dtype=np.int8)
    largest = random.uniform(0.1, 1, OUTPUTS).astype(np.float32)
    parts = {
        "weight": torch.from_numpy(codes), "SCB": torch.from_numpy(largest),
        "weight_format": torch.tensor(0, dtype=torch.uint8),
    }  # fmt: skip
    want = (largest / np.float32(127))[:, None] * codes
    assert_reads(read(tmp_path, parts, {"quant_method": "bitsandbytes", "load_in_8bit": True}), want, "INT8")
    parts["weight_format"] = torch.tensor(1, dtype=torch.uint8)
    with pytest.raises(UnsupportedModel, match="weight_format is not 'row'"):
        read(tmp_path, parts, {"quant_method": "bitsandbytes", "load_in_8bit": True})


# All ----------------------------------------------------------------------------------------------------------------
REFUSED = [
    (gptq_config(5, 32), "GPTQ with 5 bits"),
    (gptq_config(4, 32, checkpoint_format="marlin"), "GPTQ in the format 'marlin'"),
    (gptq_config(4, 32, is_marlin_format=True), "GPTQ in the format 'marlin'"),
    (gptq_config(4, 32, dynamic={"+:.*mlp": {"bits": 8}}), "'dynamic'"),
    (gptq_config(4, 32, rotation="hadamard"), "sets 'rotation' to 'hadamard'"),
    ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "packed for 'gemv'"),
    ({"quant_method": "awq", "bits": 4, "checkpoint_format": "gemv_fast"}, "'gemv_fast'"),
    ({"quant_method": "awq", "bits": 4, "pack_dtype": "int16"}, "'int16'"),
    ({"quant_method": "awq", "bits": 4, "method": "qqq"}, "'method'"),
    (compressed("mxfp6-pack-quantized"), "in the format 'mxfp6-pack-quantized'"),
    ({**compressed("int-quantized"), "sparsity_config": {"format": "sparse-24-bitmask"}}, "'sparsity_config'"),
    ({**compressed("int-quantized"), "kv_cache_scheme": {"num_bits": 8}}, "'kv_cache_scheme'"),
    ({"quant_method": "fp8", "fmt": "e5m2"}, "quantised as 'e5m2'"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "quantised as 'NVFP4'"),
    ({"quant_method": "hqq"}, "quantised by 'hqq' are not read"),
]


@pytest.mark.parametrize(("config", "words_"), REFUSED)
def test_refused_by_name(config: dict[str, Any], words_: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=words_):
        read_hugging_face(write_folder(tmp_path, quantization_config=config))


@pytest.mark.parametrize("lacking", ["qzeros", "scales"])
def test_a_missing_part_is_named(lacking: str, tmp_path: Path) -> None:
    parts, _ = gptq(4, 32, 1)
    del parts[lacking]
    with pytest.raises(ModelFileError, match=rf"no tensor '{NAME}\.{lacking}', which its quantised weights need"):
        read(tmp_path, parts, gptq_config(4, 32))


@pytest.mark.parametrize("damaged", ["qweight", "scales"])
def test_a_part_of_another_form_is_told(damaged: str, tmp_path: Path) -> None:
    parts, _ = gptq(4, 32, 1)
    with pytest.raises(ModelFileError, match=r"quantised by gptq.* have another form"):
        read(tmp_path, {**parts, damaged: parts[damaged].flatten()}, gptq_config(4, 32))


@pytest.mark.parametrize("size", [[0, 0], [48], "x"])
def test_squares_of_no_size_are_told(size: object, tmp_path: Path) -> None:
    parts = {"weight": torch.randn(OUTPUTS, INPUTS).to(torch.float8_e4m3fn), "weight_scale_inv": torch.ones(2, 2)}
    with pytest.raises(ModelFileError, match=r"quantised by fp8.* have another form"):
        read(tmp_path, parts, {"quant_method": "fp8", "weight_block_size": size})


def test_a_quantised_model_runs(tmp_path: Path) -> None:
    """With the matrices that its reader gives, beside those that were not quantised."""
    parts, want = gptq(4, 32, 1)
    read(tmp_path, parts, gptq_config(4, 32))
    found = load(tmp_path, reference_ops())
    tensors = load_file(write_folder(tmp_path) / "model.safetensors")
    save_file(
        {**tensors, f"{NAME}.weight": torch.from_numpy(np.ascontiguousarray(want, np.float32))},
        tmp_path / "model.safetensors",
    )
    expected = load(tmp_path, reference_ops())
    ids = [257, *b"user\nHello", 256]
    assert torch.equal(all_logits(found.model, ids), all_logits(expected.model, ids))
