"""first_hour.py, facts: what machine and what software this is, and what its memory and matrix units give."""

from __future__ import annotations

import importlib
import os
import platform
from importlib.util import find_spec
from typing import Any

import torch
import triton
from hour_clocks import captured_us, wall_us
from hour_lines import Lines

PEERS = ("flashinfer", "vllm", "sglang", "flash_attn", "torchao")


def run(lines: Lines, device: str) -> None:
    lines.attempt("software", lambda: lines.judge("software", True, software()))
    lines.attempt("memory", lambda: memory(lines, device))
    lines.attempt("copy on the device", lambda: copies(lines, device))
    lines.attempt("products", lambda: products(lines, device))


def software() -> str:
    peers = [name for name in PEERS if find_spec(name)]
    return (
        f"python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}, HIP "
        f"{torch.version.hip}, triton {triton.__version__}, {os.cpu_count()} cores, peers: {', '.join(peers) or 'none'}"
    )


def memory(lines: Lines, device: str) -> None:
    if device == "cpu":
        lines.skip("memory", "there is no GPU")
        return
    found: Any = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    lines.judge("memory", True, f"{found.name}, {found.multi_processor_count} multiprocessors")
    lines.fact("memory free", "MB", free / 1e6, total / 1e6, "all of it")


def copies(lines: Lines, device: str) -> None:
    size = 1 << 30 if device == "cuda" else 1 << 16
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    lines.fact("copy on the device", "GB/s", 2e-3 * size / captured_us([lambda: target.copy_(source)]))
    if device == "cpu":
        lines.skip("copy from pinned memory", "there is no GPU")
        return
    host = torch.zeros(size // 4, dtype=torch.uint8, pin_memory=True)
    us = wall_us(lambda: target[: len(host)].copy_(host, non_blocking=True))
    lines.fact("copy from pinned memory", "GB/s", 1e-3 * len(host) / us)
    small = torch.zeros(4, dtype=torch.int32, pin_memory=True)
    us = wall_us(lambda: target[:16].copy_(small.view(torch.uint8), non_blocking=True), 200)
    lines.fact("16 bytes sent and waited for", "us", us)


def products(lines: Lines, device: str) -> None:
    size = 8192 if device == "cuda" else 64
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    us = captured_us([lambda: torch.mm(a, b)])
    lines.fact("products", "TFLOP/s", 2e-6 * size**3 / us, note="bfloat16")
    try:
        importlib.import_module("torch.nn.attention.varlen")
        lines.judge("torch varlen_attn", True)
    except ImportError as error:
        lines.skip("torch varlen_attn", str(error))
