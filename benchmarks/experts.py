"""How much memory the experts of one layer touch in a step, beside what the experts that are hit hold. Linux only.

    python benchmarks/experts.py [--json FILE]

64 experts in Q4_K, of which each row has 8. The system forgets which pages were used (/proc/self/clear_refs), the step
runs, and the pages that it used are counted: 4 KiB each, so a matrix that does not begin at one counts some bytes of
its neighbours. A step with 16 experts a row, less one with 8, is what experts touch: the router, the rows and the stack
are in both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kernels_cpu import random_matrix

from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.weights import StoredWeight

NUMBER, TOP, HIDDEN, INNER = 64, 8, 1024, 512
PROCESS = Path("/proc/self")


def referenced(addresses: list[int]) -> int:
    """Bytes of pages used since they were forgotten, in those stretches of memory that hold any of the addresses."""
    total, inside = 0, False
    for line in (PROCESS / "smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            inside = any(start <= address < end for address in addresses)
        elif inside and line.startswith("Referenced:"):
            total += 1024 * int(line.split()[1])
    return total


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ops, random = CpuOps(num_threads=2), np.random.default_rng(0)
    router = random.standard_normal((NUMBER, HIDDEN), dtype=np.float32)
    gate_up = [ops.linear([random_matrix("Q4_K", seed, (2 * INNER, HIDDEN))]) for seed in range(NUMBER)]
    down = [ops.linear([random_matrix("Q4_K", 100 + seed, (HIDDEN, INNER))]) for seed in range(NUMBER)]
    packed_router = ops.linear([StoredWeight("F32", router.shape, router)])
    layers = {top: ops.experts(ExpertsSpec(top), packed_router, None, gate_up, down) for top in (TOP, 2 * TOP)}
    addresses = [array.ctypes.data for one in (*gate_up, *down) for array in one.memory]
    each = gate_up[0].num_bytes + down[0].num_bytes
    rows: list[dict[str, Any]] = []
    print(f"{'rows':>6}{'more experts':>14}{'MB of these':>14}{'MB touched':>14}{'ratio':>8}")
    for number in (1, 4, 16):
        x, touched, hit = torch.randn(number, HIDDEN), [], []
        scores = x @ torch.from_numpy(router).T
        for top, experts in layers.items():
            ops.norm_experts_add(x.numpy(), None, experts, np.zeros(x.shape, dtype=np.float32))
            (PROCESS / "clear_refs").write_text("1")
            ops.norm_experts_add(x.numpy(), None, experts, np.zeros(x.shape, dtype=np.float32))
            touched.append(referenced(addresses))
            hit.append(len(torch.unique(scores.topk(top).indices)))
        more, moved = hit[1] - hit[0], touched[1] - touched[0]
        print(f"{number:6}{more:14}{more * each / 1e6:14.2f}{moved / 1e6:14.2f}{moved / more / each:8.3f}")
        rows.append({"case": f"{number} rows", "metric": "bytes touched", "ours": moved, "peer": more * each,
                     "peer_name": "experts that are hit", "ratio": moved / more / each})  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
