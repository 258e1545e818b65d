"""The choice of an instruction set, what LLVM makes for machines that are not this one, and the cache of objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from llvmlite import ir

from stemma.kernels.codes import FORM_OF, FORMS
from stemma.kernels.cpu import steps
from stemma.kernels.cpu.attention import attend, kv, latent, tiles
from stemma.kernels.cpu.machine import compile, target, threads
from stemma.kernels.cpu.machine.dialect import I32, Code
from stemma.kernels.cpu.products import blocks, experts, groups, lay, linear, read
from stemma.kernels.cpu.rows import activations, embed, gates, norms, table
from stemma.kernels.cpu.states import conv, delta, gated, scan
from stemma.kernels.states import DeltaRuleSpec, Mamba2Spec


def flags(*names: str) -> dict[str, bool]:
    return dict.fromkeys(names, True)


LINUX = "x86_64-unknown-linux-gnu"


@pytest.mark.parametrize("name", list(target.X86_FLAGS))
def test_the_best_set_is_chosen(name: str) -> None:
    assert target.choose("x86_64", flags(*target.X86_FLAGS[name]), "any", LINUX).name == name


@pytest.mark.parametrize("name", list(target.X86_FLAGS))
def test_a_lesser_set_can_be_named(name: str) -> None:
    everything = flags(*(flag for needed in target.X86_FLAGS.values() for flag in needed))
    named = target.choose("x86_64", everything, "any", LINUX, name)
    assert named == target.choose("x86_64", flags(*target.X86_FLAGS[name]), "any", LINUX)


def test_a_set_that_the_machine_lacks_cannot_be_named() -> None:
    with pytest.raises(target.UnknownTarget, match="avx512-vnni is no target of this CPU, which has avx2"):
        target.choose("x86_64", flags(*target.X86_FLAGS["avx2"]), "any", LINUX, "avx512-vnni")
    with pytest.raises(target.UnknownTarget, match="sse is no target"):
        target.choose("x86_64", flags(*target.X86_FLAGS["avx2"]), "any", LINUX, "sse")
    with pytest.raises(target.UnknownTarget, match="neon-i8mm is no target of this CPU, which has neon-dotprod, neon"):
        target.choose("aarch64", flags("dotprod"), "any", "aarch64-unknown-linux-gnu", "neon-i8mm")
    with pytest.raises(target.UnknownTarget, match="avx2 is no target"):
        target.choose("aarch64", flags("dotprod"), "any", "aarch64-unknown-linux-gnu", "avx2")


def test_arm_has_the_best_of_three_sets_or_one_by_name() -> None:
    linux = "aarch64-unknown-linux-gnu"
    cases = [("neon", flags()), ("neon", flags("i8mm")), ("neon-dotprod", flags("dotprod")),
             ("neon-i8mm", flags("dotprod", "i8mm", "bf16", "sve"))]  # fmt: skip
    for name, has in cases:
        assert target.choose("aarch64", has, "generic", linux).name == name
        for lesser in ("neon", "neon-dotprod", "neon-i8mm")[: list(target.ARM_FLAGS)[::-1].index(name) + 1]:
            assert target.choose("arm64", flags("dotprod", "i8mm"), "any", linux, lesser).name == lesser


def test_the_environment_names_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    least = "neon" if target.host_target().is_arm else "avx2"
    monkeypatch.setenv("STEMMA_TARGET", least)
    assert target.host_target().name == least


@pytest.mark.parametrize("largest", [3, 7, 15, 31, 63, 255])
def test_sums_of_the_largest_bytes_are_exact(lesser: target.Target, tmp_path: Path, largest: int) -> None:
    """Those of pairs are added up in 16 bits, as many as fit; here are the largest codes, beside the largest digits of
    either sign, and any others."""
    random = np.random.default_rng(largest)
    codes = random.integers(0, largest + 1, (8, 16, 4), dtype=np.uint8)
    digits = random.integers(-128, 128, (2, 8, 4), dtype=np.int8)
    codes[:, :8], digits[0] = largest, -128
    digits[1, :, :2] = 127
    if lesser.byte_offset == 0 and largest == 255:
        codes ^= 128  # signed

    def write(module: ir.Module) -> None:
        code = Code(module, "sums", 3)
        weights, activations, to = code.arguments
        vectors = [code.load(target.VECTOR_BYTES, weights + 64 * j) for j in range(8)]
        sums = lesser.dots(code, vectors, lambda d, j: code.broadcast(I32, activations + (32 * d + 4 * j), 16), largest)
        for digit, total in enumerate(sums):
            code.store(total, to + 64 * digit)
        code.finish()

    library = compile.load("sums", write, lesser, (largest,), tmp_path)
    weights, results = (threads.aligned_zeros(size) for size in (codes.nbytes, 128))
    weights[:] = codes.reshape(-1)
    library.function("sums", 3)(weights.ctypes.data, digits.ctypes.data, results.ctypes.data)
    numbers = codes.view(np.int8) if lesser.byte_offset == 0 else codes
    expected = np.einsum("joi,dji->do", numbers.astype(np.int64), digits.astype(np.int64))
    assert (results.view(np.int32).reshape(2, 16) == expected).all()


def test_machines_without_vectors_are_refused() -> None:
    with pytest.raises(target.UnsupportedCPU, match="AVX2"):
        target.choose("x86_64", flags("sse4.2", "avx"), "any", LINUX)
    with pytest.raises(target.UnsupportedCPU):
        target.choose("riscv64", {}, "any", "riscv64-unknown-linux-gnu")


@pytest.mark.parametrize(
    ("machine", "cpu", "triple"),
    [("aarch64", "neoverse-n1", "aarch64-unknown-linux-gnu"), ("arm64", "apple-m1", "arm64-apple-darwin")],
)
def test_every_kernel_compiles_for_neon(machine: str, cpu: str, triple: str) -> None:
    chosen = target.choose(machine, flags("dotprod"), cpu, triple)
    every_other = slice(None, None, 2) if machine == "arm64" else slice(1, None, 2)
    texts = [
        compile.assembly(module_of(triple, parts), chosen)
        for parts in (
            rows_parts(chosen, every_other),
            group_parts(chosen),
            attention_parts(chosen),
            latent_parts(chosen),
            state_parts(),
        )
    ]
    for instruction in ("sdot", "tbl", "fmla"):
        assert any(instruction in text for text in texts)
    for text in texts:
        named = re.findall(r"\tbl\t([\w.]+)|#:abs_g\d\w*:([\w.]+)|([\w.]+)@GOTPAGE\b", text)
        assert {name for names in named for name in names if name} <= set(re.findall(r"^([\w.]+):", text, re.MULTILINE))
        assert "fmaf" not in text, "a call for each lane"


@pytest.mark.parametrize(
    ("cpu", "triple", "has", "instructions"),
    [
        ("cortex-a72", "aarch64-unknown-linux-gnu", (), {"smull"}),
        ("neoverse-v1", "aarch64-unknown-linux-gnu", ("dotprod",), {"sdot"}),
        ("neoverse-v1", "aarch64-unknown-linux-gnu", ("dotprod", "i8mm"), {"sdot", "smmla"}),
        ("apple-m2", "arm64-apple-darwin", ("dotprod", "i8mm"), {"sdot", "smmla"}),
    ],
)
def test_bytes_are_multiplied_as_the_processor_can(
    cpu: str, triple: str, has: tuple[str, ...], instructions: set[str]
) -> None:
    """One row by dot products, several by small matrices where there are such; never by vectors of another length."""
    chosen = target.choose("aarch64", flags(*has), cpu, triple)
    text = compile.assembly(module_of(triple, [partial(linear.add_product, target=chosen, kind="q4")]), chosen)
    assert set(re.findall(r"\b(smull|sdot|smmla)\b", text)) == instructions
    assert not re.search(r"\bz\d+\.", text)


@pytest.mark.parametrize("name", ["avx2", "avx512-vnni"])
def test_vectors_wait_on_the_stack_within_cache_lines(name: str) -> None:
    """Also in functions whose caller aligns the stack to 16 bytes, as other libraries and threads do."""
    chosen = target.choose("x86_64", flags(*target.X86_FLAGS[name]), "any", LINUX)
    slices = [partial(linear.add_product, target=chosen, kind=kind) for kind in ("q4", "q6x16")]
    prepare = partial(activations.add_prepare, target=chosen)
    parts = [prepare, gates.add_gate, *slices], attention_parts(chosen)
    functions = [
        function
        for of_module in parts
        for function in re.split(r"(?m)^(?=[A-Za-z_]\w*:)", compile.assembly(module_of(LINUX, [*of_module]), chosen))
        if re.search(r"\(%rsp.*%[yz]mm|%[yz]mm\d+, [-\w]*\(%rsp", function)
    ]
    assert functions
    assert [function.partition(":")[0] for function in functions if "andq\t$-64, %rsp" not in function] == []


def module_of(triple: str, parts: list[Callable[[ir.Module], object]]) -> ir.Module:
    module = ir.Module("neon")
    module.triple = triple
    threads.add_worker(module)
    for part in parts:
        part(module)
    return module


def rows_parts(chosen: target.Target, kinds: slice) -> list[Callable[[ir.Module], object]]:
    forms = [*FORMS, *linear.FLOATING][kinds]
    return [
        partial(activations.add_prepare, target=chosen), gates.add_gate, table.add_table, norms.add_norm_add,
        partial(linear.add_operations, target=chosen), steps.add_replay,
        *(partial(linear.add_product, target=chosen, kind=kind) for kind in forms),
        *(partial(lay.add_lay, kind=kind) for kind in forms if kind in FORMS),
        *(partial(embed.add_embed, type_=type_) for type_ in embed.READERS),
        *(partial(read.add_read, type_=type_, kind=FORM_OF[type_].name) for type_ in [*blocks.BLOCKS][kinds]),
    ]  # fmt: skip


def group_parts(chosen: target.Target) -> list[Callable[[ir.Module], object]]:
    return [groups.add_groups, partial(groups.add_head_products, target=chosen),
            partial(experts.add_experts, target=chosen)]  # fmt: skip


def attention_parts(chosen: target.Target) -> list[Callable[[ir.Module], object]]:
    shape = tiles.Shape(9, 3, 64, 16, chosen, "int16", windowed=True, softcapped=True)
    return [partial(attend.add_attention, shape=shape), partial(kv.add_rope_write, shape=shape)]


def latent_parts(chosen: target.Target) -> list[Callable[[ir.Module], object]]:
    shape = tiles.Shape(4, 1, 48, 16, chosen, "int16", value_dim=32)
    turned = partial(latent.add_turn_tails, heads=4, latent=32, turned=16)
    return [partial(attend.add_attention, shape=shape), partial(latent.add_latent_write, shape=shape), turned]


def state_parts() -> list[Callable[[ir.Module], object]]:
    return [
        gated.add_gated, partial(conv.add_short_conv, taps=3),
        partial(delta.add_gated_delta, spec=DeltaRuleSpec(2, 4, 32, 40)),
        partial(scan.add_selective_scan, spec=Mamba2Spec(3, 40, 1, 30)),
    ]  # fmt: skip


def test_a_changed_source_compiles_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "SOURCES", tmp_path / "sources")
    inner = tmp_path / "sources" / "room" / "kernel.py"
    inner.parent.mkdir(parents=True)
    for text in ("first", "second", "first"):
        inner.write_text(text)
        compile.load("test", lambda module: threads.add_parallel(module), target.host_target(), (), tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_sources_in_a_key_are_the_back_ends() -> None:
    names = {path.name for path in compile.SOURCES.rglob("*.py")}
    assert {"ops.py", "linear.py", "attend.py", "activations.py", "dialect.py"} <= names


def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    calls = []

    def generate(module: ir.Module) -> None:
        calls.append(module)
        threads.add_parallel(module)

    host = target.host_target()
    for parameter in (1, 1, 2):
        assert compile.load("test", generate, host, (parameter,), tmp_path).address("parallel") != 0
    assert len(calls) == 2
    assert len(list(tmp_path.iterdir())) == 2
