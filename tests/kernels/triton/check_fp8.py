"""Weights and activations of 8 bits: what is rounded and how, products of the codes, what stays as it is.

Products are torch's, which has one for CPUs too; the interpreter's conversion to E4M3 is not a GPU's (check_kv.py says
how), so what rounding costs is asserted of torch's conversion, and kernels are compared from their own codes on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from triton_support import DEVICE, EXACT, FLOATS, INTERPRETED, TOLERANCE, assert_close

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.select import UnknownBackend, select_ops
from stemma.kernels.triton import fp8, fp8_launches
from stemma.kernels.triton.composed import TritonExperts
from stemma.kernels.triton.fp8 import LIMIT, Fp8Linear, eight_of, quantize
from stemma.kernels.triton.fp8_launches import Fp8Kernels, scaled_product
from stemma.kernels.triton.launches import run
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import DenseLinear, PackedLinear, as_packed, unpack
from stemma.kernels.triton.stacking import group
from stemma.kernels.triton.targets import GFX942, SM_80, SM_90, SM_100, UnsupportedDevice
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.engine import Engine
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.files.quantised.blocks import small
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny, tiny_config, tiny_tensors
from tests.kernels.stored import stored
from tests.runtime.model.running import all_logits

SM_89 = SM_80._replace(name="sm_89", arch=89)


def bias_of(size: int) -> StoredWeight:
    return StoredWeight("F32", (size,), np.random.default_rng(7).normal(size=size).astype(np.float32))


def from_file(outputs: int, inputs: int, groups: int, seed: int = 0) -> tuple[StoredWeight, torch.Tensor, np.ndarray]:
    """As a folder's FP8 is read: the weight, its codes and its scales (outputs, groups)."""
    codes = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)).to(torch.float8_e4m3fn)
    scales = np.random.default_rng(seed).uniform(0.01, 0.02, (outputs, groups)).astype(np.float32)
    return small(codes.view(torch.uint8).numpy(), scales), codes, scales


# Rounding ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["plain", "rms", "layer"])
def test_rows_are_rounded_behind_their_norm(dtype: torch.dtype, kind: str) -> None:
    ops, features = TritonOps(DEVICE, dtype), 80
    torch.manual_seed(0)
    x = (torch.randn(9, features) * torch.logspace(-3, 2, 9)[:, None]).to(dtype)
    x[4] = 0.0
    scale, bias = stored("F32", (1, features)).data[0], bias_of(features)
    weight = StoredWeight("F32", (features,), scale)
    norm, want = None, x.double()
    if kind == "rms":
        norm = ops.norm(weight, 1e-6)
        want = F.rms_norm(want, (features,), torch.from_numpy(scale).double(), 1e-6)
    elif kind == "layer":
        norm = ops.layer_norm(weight, bias, 1e-6)
        want = F.layer_norm(
            want, (features,), torch.from_numpy(scale).double(), torch.from_numpy(bias.data).double(), 1e-6
        )  # fmt: skip
    codes, scales = (each.cpu().double() for each in ops._fp8.quantize(x.to(DEVICE), norm))
    largest = want.abs().amax(1, keepdim=True)
    assert torch.allclose(scales, (largest / LIMIT).clamp(min=fp8.SMALLEST), rtol=1e-5)
    assert torch.isfinite(codes).all()
    error = (codes * scales - want).abs()
    wrong = error > torch.maximum(want.abs() / 16, scales / 64 / (1 if INTERPRETED else 16)) * 1.01
    if INTERPRETED:
        assert wrong.double().mean() < 0.03
        wrong = error > torch.maximum(want.abs() * 0.51, scales / 64) * 1.01
    assert not wrong.any()


def test_what_rounding_costs() -> None:
    """Three bits of mantissa: a sixteenth of each number at most, or half the least number's step."""
    torch.manual_seed(0)
    x, weight = torch.randn(12, 256) * torch.logspace(-2, 2, 12)[:, None], torch.randn(48, 256).exp()
    (x_codes, x_scales), (codes, scales) = quantize(x), quantize(weight)
    off = [
        torch.maximum(of.abs() / 16, by * 2.0**-10) * 1.001
        for of, by in ((x, x_scales), (weight, scales))
    ]  # fmt: skip
    assert ((x_codes.float() * x_scales - x).abs() <= off[0]).all()
    assert ((codes.float() * scales - weight).abs() <= off[1]).all()
    got = scaled_product(x_codes, codes, x_scales, scales.T.contiguous(), torch.float32, None)
    bound = off[0] @ (weight.abs() + off[1]).T + x.abs() @ off[1].T
    error = (got - x @ weight.T).abs()
    assert (error <= bound).all()
    assert error.max() > 0.001 * bound.max()


def test_zeros_and_numbers_at_the_limit_have_codes() -> None:
    codes, scales = quantize(torch.tensor([[0.0, 0.0], [448.0, -1e30], [3e38, -3e38]]))
    assert torch.isfinite(codes.float()).all()
    assert codes[0].float().tolist() == [0.0, 0.0]
    assert codes[1:, 1].float().tolist() == [-LIMIT, -LIMIT]
    assert torch.isfinite(scales).all()


# Products ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_products_are_those_of_the_codes(dtype: torch.dtype, biased: bool, rows: int) -> None:
    ops = TritonOps(DEVICE, dtype, quantization="fp8")
    parts = [stored("BF16", (32, 96), 1), stored("F32", (16, 96), 2)]
    bias = [bias_of(32), bias_of(16)] if biased else []
    linear = ops.linear(parts, bias)
    assert isinstance(linear, Fp8Linear)
    torch.manual_seed(0)
    x, residual = torch.randn(rows, 96).to(DEVICE, dtype), torch.randn(rows, 48).to(DEVICE, dtype)
    codes, row_scales = ops._fp8.quantize(x)
    want = (codes.float() * row_scales) @ (linear.weight.float() * linear.scales.T).T
    want += 0.0 if linear.bias is None else linear.bias.float()
    assert_close(ops.norm_linear(x, None, linear), want, TOLERANCE[dtype])
    expected = residual.float() + 0.5 * want
    got = ops.linear_add(x, linear, residual, 0.5)
    assert got.data_ptr() == residual.data_ptr(), "added in place"
    assert_close(got, expected, TOLERANCE[dtype])
    norm = ops.norm(StoredWeight("F32", (96,), np.ones(96, np.float32)), 1e-6)
    assert_close(ops.norm_linear(x, norm, linear), ops._fp8.linear(x, linear, norm), 0.0)


@pytest.mark.parametrize(("target", "dtype", "by_torch"), [
    (SM_90, torch.bfloat16, True), (SM_100, torch.bfloat16, True), (SM_90, torch.float16, False),
    (SM_89, torch.bfloat16, False),
])  # fmt: skip
def test_who_scales_rows(target: Any, dtype: torch.dtype, by_torch: bool) -> None:
    """And what is launched beside torch's product: nothing, or one kernel that adds the residual too."""
    launched, asked = [], []

    def product(codes: Any, weight: Any, row_scales: Any, scales: Any, out: torch.dtype, bias: Any) -> Any:
        asked.append((tuple(row_scales.shape), tuple(scales.shape), out))
        return scaled_product(codes, weight, row_scales, scales, out, bias)

    def count(kernel: Any, *given: Any) -> None:
        launched.append(kernel.__name__)
        run(kernel, *given)

    kernels = Fp8Kernels(target, dtype, DEVICE, count, product)
    linear = TritonOps(DEVICE, dtype, quantization="fp8").linear([stored("BF16", (48, 64))])
    x, residual = torch.randn(3, 64).to(DEVICE, dtype), torch.zeros(3, 48, dtype=dtype, device=DEVICE)
    got = kernels.linear(x, linear, None, residual)
    assert asked == ([((3, 1), (1, 48), dtype)] if by_torch else [((), (), torch.float32)])
    assert launched == ["quantize_kernel", *([] if by_torch else ["finish_kernel"])]
    assert_close(got, kernels.linear(x, linear), TOLERANCE[dtype])


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ops, weight = TritonOps(DEVICE, EXACT, quantization="fp8"), stored("F32", (48, 64))
    x, linear = torch.randn(7, 64).to(DEVICE, EXACT), ops.linear([weight])
    whole = ops.norm_linear(x, None, linear)
    monkeypatch.setattr(fp8, "PIECE_BYTES", 5 * 64 * EXACT.itemsize)
    monkeypatch.setattr(fp8_launches, "PRODUCT_BYTES", 2 * 48 * 4)
    again: Any = ops.linear([weight])
    assert torch.equal(again.weight.view(torch.uint8), linear.weight.view(torch.uint8))
    assert torch.equal(again.scales, linear.scales)
    assert_close(ops.norm_linear(x, None, again), whole, 1e-6)


# What is of 8 bits ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("groups", ["matrix", "output"])
def test_what_is_stored_so_stays_so(groups: str) -> None:
    """Without the option too: its codes and scales, those of several parts side by side."""
    parts = [from_file(32, 64, 1, 1), from_file(16, 64, 1, 2)]
    if groups == "matrix":
        parts = [(small(c.view(torch.uint8).numpy(), s[:1]), c, np.repeat(s[:1], len(s), 0)) for _, c, s in parts]
    linear: Any = TritonOps(DEVICE, EXACT).linear([weight for weight, _, _ in parts])
    assert isinstance(linear, Fp8Linear)
    codes = torch.cat([codes.view(torch.uint8) for _, codes, _ in parts])
    assert torch.equal(linear.weight.view(torch.uint8).cpu(), codes)
    assert torch.equal(linear.scales.cpu()[0], torch.from_numpy(np.concatenate([s[:, 0] for _, _, s in parts])))


@pytest.mark.parametrize("target", [SM_80, GFX942])
def test_where_there_are_no_such_units(target: Any) -> None:
    weight, _, _ = from_file(48, 64, 1)
    assert isinstance(TritonOps(DEVICE, EXACT, target=target).linear([weight]), DenseLinear)
    with pytest.raises(UnsupportedDevice, match=r"8\.9.*Q8_0"):
        TritonOps(DEVICE, EXACT, target=target, quantization="fp8")
    assert {eight_of(each, "fp8") for each in (SM_89, SM_90, SM_100)} == {"all"}


def test_what_stays_as_it_is() -> None:
    ops = TritonOps(DEVICE, EXACT, quantization="fp8")
    assert isinstance(ops.linear([stored("Q8_0", (48, 64))]), PackedLinear)
    assert isinstance(ops.linear([stored("F32", (48, 64))], exact=True), DenseLinear)
    assert isinstance(ops.linear([stored("F32", (40, 64))]), DenseLinear), "no multiple of 16"
    assert isinstance(TritonOps(DEVICE, EXACT).linear([stored("F32", (48, 64))]), DenseLinear)


@pytest.mark.parametrize("options", [{"backend": "reference"}, {"backend": "cpu"}])
def test_other_back_ends_refuse_it(options: dict[str, str]) -> None:
    with pytest.raises(UnknownBackend, match="needs a GPU") as refused:
        select_ops(device="cpu", quantization="fp8", **options)
    assert refused.value.param == "quantization"


def test_another_quantisation_is_refused() -> None:
    with pytest.raises(UnknownBackend, match="'int2'") as refused:
        select_ops(device=str(DEVICE), backend="triton", quantization="int2")
    assert refused.value.param == "quantization"


# Scales of squares, and experts -------------------------------------------------------------------------------------
def values(linear: Fp8Linear | PackedLinear) -> torch.Tensor:
    """What codes and scales mean, (outputs, inputs) float32."""
    return unpack(as_packed(linear), torch.float32).weight


@pytest.mark.parametrize(("inputs", "groups"), [(256, 2), (320, 3), (2080, 17)])
def test_scales_of_squares_stay(inputs: int, groups: int) -> None:
    """Also beside a matrix with one scale; the last square may be narrower."""
    codes = [torch.randn(size, inputs).to(torch.float8_e4m3fn) for size in (48, 16)]
    scales = np.random.default_rng(0).uniform(0.01, 0.02, (48, groups)).astype(np.float32)
    wide = np.repeat(scales, 128, axis=1)[:, :inputs]
    parts = [small(codes[0].view(torch.uint8).numpy(), np.ascontiguousarray(wide[:, ::32])),
             small(codes[1].view(torch.uint8).numpy(), np.full((16, 1), 0.5, np.float32))]  # fmt: skip
    ops = TritonOps(DEVICE, EXACT)
    linear: Any = ops.linear(parts, [bias_of(48), bias_of(16)])
    assert (linear.format, linear.group) == ("floats", 128)
    want = torch.cat([codes[0].float() * torch.from_numpy(wide), codes[1].float() * 0.5])
    assert torch.equal(values(linear).cpu(), want)
    assert linear.codes.nbytes + linear.scales.nbytes == 64 * (inputs + 4 * groups)
    for rows in (1, 20):
        x, residual = torch.randn(rows, inputs).to(DEVICE, EXACT), torch.randn(rows, 64).to(DEVICE, EXACT)
        row_codes, row_scales = ops._fp8.quantize(x)
        product = (row_codes.float() * row_scales) @ values(linear).T + linear.bias.float()
        assert_close(ops.norm_linear(x, None, linear), product, TOLERANCE[EXACT])
        expected = residual.float() + 0.5 * product
        assert_close(ops.linear_add(x, linear, residual, 0.5), expected, TOLERANCE[EXACT])
    norm = ops.norm(StoredWeight("F32", (inputs,), np.ones(inputs, np.float32)), 1e-6)
    row_codes, row_scales = ops._fp8.quantize(x, norm)
    product = (row_codes.float() * row_scales) @ values(linear).T + linear.bias.float()
    assert_close(ops.norm_linear(x, norm, linear), product, TOLERANCE[EXACT])


def test_other_scales_become_dense() -> None:
    """Of 32 or 64 inputs: more scales than matrix units can be stopped for."""
    ops = TritonOps(DEVICE, EXACT)
    assert isinstance(ops.linear([from_file(48, 256, 8)[0]]), DenseLinear)
    assert isinstance(ops.linear([from_file(48, 256, 4)[0]]), DenseLinear)
    weight, _, _ = from_file(48, 256, 8)
    linear: Any = TritonOps(DEVICE, EXACT, quantization="fp8").linear([weight])
    assert isinstance(linear, Fp8Linear)
    assert_close(values(linear), torch.from_numpy(np.array(dequantize(weight))), 1 / 16)


def expert(kind: str, ops: TritonOps, seed: int) -> Any:
    if kind == "rounded":
        return ops.linear([stored("BF16", (48, 256), seed), stored("F32", (16, 256), seed)], [bias_of(48), bias_of(16)])
    groups = {"of outputs": 1, "of squares": 2}[kind]
    return ops.linear([from_file(64, 256, groups, seed)[0]], [bias_of(64)])


@pytest.mark.parametrize("kind", ["rounded", "of outputs", "of squares"])
@pytest.mark.parametrize("rows", [1, 7, 90])
def test_products_of_experts_are_those_of_the_codes(kind: str, rows: int) -> None:
    ops = TritonOps(DEVICE, EXACT, quantization="fp8" if kind == "rounded" else None)
    linears = [expert(kind, ops, seed) for seed in range(5)]
    (grouped,) = group(linears, EXACT)
    assert (grouped.format, grouped.group) == ("floats", 128 if kind == "of squares" else 256)
    assert grouped.weights.nbytes == 5 * 64 * 256
    x = torch.randn(rows, 256).to(DEVICE, EXACT)
    chosen = torch.stack([torch.randperm(5)[:2] for _ in range(rows)]).to(DEVICE, torch.int32)
    got = ops._multiply.grouped(x, [grouped], ops._products.sort_entries(chosen, 5))
    codes, scales = ops._fp8.quantize(x)
    each = torch.stack([(codes.float() * scales) @ values(linear).T + linear.bias.float() for linear in linears])
    want = torch.stack([each[which, row // 2] for row, which in enumerate(chosen.flatten().tolist())])
    assert_close(got, want, TOLERANCE[EXACT])


@pytest.mark.parametrize("rows", [3, 60])
def test_products_of_experts_of_several_kinds_are_each_its_own(rows: int) -> None:
    """Floats with scales of outputs, of squares, and dense ones: in three launches, nothing is unpacked."""
    ops = TritonOps(DEVICE, EXACT)
    linears = [ops.linear([from_file(64, 256, groups, seed)[0]]) for seed, groups in enumerate((1, 2, 1, 2))]
    linears.append(ops.linear([stored("F32", (64, 256))]))
    grouped = group(linears, EXACT)
    assert [(each.format, len(each.weights)) for each in grouped] == [("floats", 2), ("floats", 2), ("dense", 1)]
    x = torch.randn(rows, 256).to(DEVICE, EXACT)
    chosen = torch.stack([torch.randperm(5)[:2] for _ in range(rows)]).to(DEVICE, torch.int32)
    got = ops._multiply.grouped(x, grouped, ops._products.sort_entries(chosen, 5))
    codes, scales = ops._fp8.quantize(x)
    each = torch.stack([
        x.float() @ linear.weight.float().T if isinstance(linear, DenseLinear)
        else (codes.float() * scales) @ values(linear).T
        for linear in linears
    ])  # fmt: skip
    want = torch.stack([each[which, row // 2] for row, which in enumerate(chosen.flatten().tolist())])
    assert_close(got, want, TOLERANCE[EXACT])


def test_where_there_are_no_units_experts_are_dense() -> None:
    ops = TritonOps(DEVICE, EXACT, target=GFX942)
    (grouped,) = group([ops.linear([from_file(64, 256, groups)[0]]) for groups in (1, 2)], EXACT)
    assert grouped.format == "dense"


@pytest.mark.parametrize("target", [SM_89, SM_90, SM_100], ids=lambda target: target.name)
def test_a_mixtures_logits(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's rounding: near those of float32, all experts of 8 bits, and routers as they were."""
    monkeypatch.setattr(
        Fp8Kernels, "quantize", lambda self, x, norm=None: quantize(x if norm is None else normed(x, norm))
    )
    config = tiny_config("qwen3_moe")
    ids, models = list(b"a text of a few words"), []
    for ops in (ReferenceOps(torch.device("cpu")), TritonOps(DEVICE, EXACT, target=target, quantization="fp8")):
        checkpoint = Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,)))
        models.append(assemble(checkpoint, ops).model)
    mixtures = tensors_of(models[1], TritonExperts)
    assert len(mixtures) == config.num_layers
    assert {type(each.router) for each in mixtures} == {DenseLinear}
    layouts = [[linear.format for linear in linears] for each in mixtures for linears in (each.gate_up, each.down)]
    assert layouts == [["floats"]] * 2 * config.num_layers
    want, got = (all_logits(model, ids).float().cpu() for model in models)
    alike = torch.cosine_similarity(want, got, dim=1)
    assert (alike > 0.98).float().mean() > 0.9, "but for a token that chooses another expert"
    assert alike.max() < 1 - 1e-6, "something is rounded"


def normed(x: torch.Tensor, norm: Any) -> torch.Tensor:
    return F.rms_norm(x.float(), (x.shape[1],), norm.weight, norm.epsilon)


# A model -------------------------------------------------------------------------------------------------------------
def tensors_of(found: Any, kind: type) -> list[Any]:
    """Everything of this type that a network's objects hold."""
    seen: dict[int, Any] = {}

    def look(thing: Any) -> None:
        if id(thing) in seen or isinstance(thing, str | bytes | int | float | torch.Tensor | np.ndarray | type):
            return
        seen[id(thing)] = thing
        if isinstance(thing, dict):
            parts: list[Any] = list(thing.values())
        elif isinstance(thing, list | tuple):
            parts = list(thing)
        elif type(thing).__module__.startswith("stemma"):
            names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
            parts = list(getattr(thing, "__dict__", {}).values())
            parts += [getattr(thing, name) for name in names if hasattr(thing, name)]
        else:
            return
        for part in parts:
            look(part)

    look(found)
    return [thing for thing in seen.values() if isinstance(thing, kind)]


def test_half_the_bytes_of_a_models_layers() -> None:
    """Of bfloat16, but for a scale an output; the table of embeddings and the matrix of logits stay."""
    models = [
        tiny(TritonOps(DEVICE, torch.bfloat16, quantization=chosen), "llama").model for chosen in (None, "fp8")
    ]  # fmt: skip
    dense, eight = tensors_of(models[0], DenseLinear), tensors_of(models[1], Fp8Linear)
    rows = models[0].config.vocab_size
    assert [each.out_features for each in tensors_of(models[1], DenseLinear)] == [rows, rows]
    bytes_dense = sum(each.weight.nbytes for each in dense if each.out_features != rows)
    scales = sum(each.scales.nbytes for each in eight)
    assert len(eight) == 4 * models[0].config.num_layers
    assert sum(each.weight.nbytes for each in eight) == bytes_dense / 2
    assert scales <= 4 * bytes_dense / 2 / min(each.in_features for each in eight)


def test_an_engine_says_the_same_cold_and_cached() -> None:
    ops = TritonOps(DEVICE, EXACT, quantization="fp8")
    prompt = list(b"the common beginning of many texts")
    with Engine.of(tiny(ops, "llama"), kv_tokens=1024, block_size=16) as engine:
        first, again = (engine.generate(prompt, max_tokens=3, temperature=0.0) for _ in range(2))
    assert list(first.tokens) == list(again.tokens)
    assert len(first.tokens) == 3
    assert again.usage.cached_tokens > 0
