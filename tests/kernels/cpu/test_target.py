"""The choice of an instruction set, what LLVM makes for machines that are not this one, and the cache of objects."""

from __future__ import annotations

from pathlib import Path

import pytest
from llvmlite import ir

from stemma.kernels.codes import FORMS
from stemma.kernels.cpu.attention import attend, kv, tiles
from stemma.kernels.cpu.machine import compile, target, threads
from stemma.kernels.cpu.products import linear
from stemma.kernels.cpu.rows import activations, embed


def flags(*names: str) -> dict[str, bool]:
    return dict.fromkeys(names, True)


LINUX = "x86_64-unknown-linux-gnu"


@pytest.mark.parametrize("name", list(target.X86_FLAGS))
def test_the_best_set_is_chosen(name: str) -> None:
    assert target.choose("x86_64", flags(*target.X86_FLAGS[name]), "any", LINUX).name == name


def test_machines_without_vectors_are_refused() -> None:
    with pytest.raises(target.UnsupportedCPU, match="AVX2"):
        target.choose("x86_64", flags("sse4.2", "avx"), "any", LINUX)
    with pytest.raises(target.UnsupportedCPU, match="dot"):
        target.choose("aarch64", flags("neon"), "cortex-a53", "aarch64-unknown-linux-gnu")
    with pytest.raises(target.UnsupportedCPU):
        target.choose("riscv64", {}, "any", "riscv64-unknown-linux-gnu")


@pytest.mark.parametrize(
    ("machine", "cpu", "triple"),
    [("aarch64", "neoverse-n1", "aarch64-unknown-linux-gnu"), ("arm64", "apple-m1", "arm64-apple-darwin")],
)
def test_every_kernel_compiles_for_neon(machine: str, cpu: str, triple: str) -> None:
    chosen = target.choose(machine, flags("dotprod"), cpu, triple)
    module = ir.Module("neon")
    module.triple = triple
    threads.add_worker(module)
    activations.add_prepare(module)
    activations.add_gate(module)
    every_other = slice(None, None, 2) if machine == "arm64" else slice(1, None, 2)
    for kind in [*FORMS, *linear.FLOATING][every_other]:
        linear.add_product(module, chosen, kind)
    for type_ in embed.READERS:
        embed.add_embed(module, type_)
    linear.add_operations(module, chosen)
    shape = tiles.Shape(9, 3, 64, 16, chosen, "int16")
    attend.add_attention(module, shape)
    kv.add_rope_write(module, shape)
    text = compile.assembly(module, chosen)
    assert "sdot" in text
    assert "tbl" in text
    assert "fmla" in text
    assert "fmaf" not in text  # a call for each lane


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
