"""What ARM processors say of themselves, on systems that are not this one; the order in which threads see memory."""

from __future__ import annotations

import mmap
import re
import sys

import pytest
from llvmlite import ir

from stemma.kernels.cpu.machine import arm, compile, target, threads

CORTEX_A72, NEOVERSE_N1, NEOVERSE_V1 = (0x8FB, 0), (0x119FFB, 0), (0x119FFB | 1 << 22, 1 << 13 | 1 << 14)
"""AT_HWCAP and AT_HWCAP2."""


@pytest.mark.parametrize(
    ("words", "name"), [(CORTEX_A72, "neon"), (NEOVERSE_N1, "neon-dotprod"), (NEOVERSE_V1, "neon-i8mm")]
)
def test_linux_tells_in_the_auxiliary_vector(
    monkeypatch: pytest.MonkeyPatch, words: tuple[int, int], name: str
) -> None:
    monkeypatch.setattr(arm.sys, "platform", "linux")
    monkeypatch.setattr(arm, "auxiliary", dict(zip((16, 26), words, strict=True)).__getitem__)
    assert target.choose("aarch64", arm.arm_flags(), "generic", "aarch64-unknown-linux-gnu").name == name


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({}, "neon-dotprod"),  # macOS 11 knows neither name
        ({"hw.optional.arm.FEAT_DotProd": 1, "hw.optional.arm.FEAT_I8MM": 0}, "neon-dotprod"),
        ({"hw.optional.arm.FEAT_DotProd": 1, "hw.optional.arm.FEAT_I8MM": 1}, "neon-i8mm"),
    ],
)
def test_macos_tells_by_sysctl(monkeypatch: pytest.MonkeyPatch, known: dict[str, int], name: str) -> None:
    monkeypatch.setattr(arm.sys, "platform", "darwin")
    monkeypatch.setattr(arm, "sysctl", known.get)
    assert target.choose("arm64", arm.arm_flags(), "apple-m1", "arm64-apple-darwin23.1.0").name == name


def test_a_machine_asks_only_its_own_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a Mac, LLVM's answer is not looked at: it has none."""
    llvm = target.llvm()  # the library that this system has
    monkeypatch.setattr(target.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(arm.sys, "platform", "darwin")
    monkeypatch.setattr(arm, "sysctl", {"hw.optional.arm.FEAT_I8MM": 1}.get)
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: pytest.fail("LLVM was asked"))
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "apple-m2")
    monkeypatch.setattr(llvm, "get_default_triple", lambda: "arm64-apple-darwin23.1.0")
    monkeypatch.delenv("STEMMA_TARGET", raising=False)
    assert target.host_target().name == "neon-i8mm"
    monkeypatch.setenv("STEMMA_TARGET", "neon-dotprod")
    assert target.host_target().features == "+neon,+dotprod,-sve"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has an auxiliary vector")
def test_words_of_the_auxiliary_vector_are_read() -> None:
    at_pagesz = 6
    assert arm.auxiliary(at_pagesz) == mmap.PAGESIZE


TAKES = r"lda(r|pr)\t.*(casal\t|ldaxr\t.*stlxr\t).*blr\t.*(ldaddal\t|ldaxr\t.*stlxr\t)"
"""A ticket is seen, then taken; then the kernel runs, and only then one more piece is finished."""


@pytest.mark.parametrize(
    ("cpu", "triple"), [("cortex-a72", "aarch64-unknown-linux-gnu"), ("apple-m1", "arm64-apple-darwin23.1.0")]
)
def test_threads_see_what_others_wrote_before_they_said_so(cpu: str, triple: str) -> None:
    """ARM lets stores and loads pass each other where x86 does not, so no test that runs here would tell: the
    instructions are looked at that say in which order they may be seen."""
    module = ir.Module("threads")
    module.triple = triple
    threads.add_worker(module)
    threads.add_parallel(module)
    text = compile.assembly(module, target.choose("arm64", {}, cpu, triple))
    take, _, parallel = re.split(r"^_?(?:worker|parallel):", text, flags=re.MULTILINE)
    assert re.search(TAKES, take, re.DOTALL)
    begins, _, waits = parallel.partition("\tstlr\t")
    assert begins
    assert re.search(r"lda(r|pr|pur)\t", waits)
    ordered = {"casal", "ldaddal", "ldaxr", "stlxr"}
    assert set(re.findall(r"\t((?:cas|ldadd|ldx|stx|ldax|stlx)[a-z]*)\t", text)) <= ordered
