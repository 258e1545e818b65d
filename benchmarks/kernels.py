"""GPU kernels without a GPU: what they compile to, and what they move. How fast they are: first_hour.py.

    python benchmarks/kernels.py --tables      registers, shared memory, occupancy, instructions, for four architectures
    python benchmarks/kernels.py --model       bytes moved by decode against the ideal, contexts of 1k to 128k

The first writes docs/measurements/kernels-gpu-*.md, a page an architecture as soon as it is known; the second prints
the table of docs/measurements/kernels-gpu.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hour_layouts import decode_layout

from stemma.kernels.ops import KVShape
from stemma.kernels.triton.cut import Cutting, cut, piece_of
from stemma.kernels.triton.targets import PROVED
from stemma.kernels.triton.traffic import attention_traffic, ideal_bytes


class Row(NamedTuple):
    """Bytes as a factor; ratio = ours / peer."""

    case: str
    metric: str
    ours: float
    peer: float
    peer_name: str

    def as_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "ratio": self.ours / self.peer}


PAGES = Path(__file__).resolve().parent.parent / "docs" / "measurements"

# Without a GPU -------------------------------------------------------------------------------------------------------
MODEL_HEADS = ((32, 8, 128), (9, 3, 64), (28, 4, 128), (32, 4, 128), (32, 32, 128), (16, 8, 256))
CONTEXTS = tuple(1024 << shift for shift in range(8))


def byte_rows() -> Iterator[Row]:
    """Decode bytes over the ideal ones, the worst of the block sizes and batches of each row."""
    for num_heads, num_kv_heads, head_dim in MODEL_HEADS:
        for kv_bytes in (2, 1):
            for context in CONTEXTS:
                factors = []
                for block_size in (16, 32, 64, 128):
                    for batch in (1, 16):
                        metadata = decode_layout(batch, context, block_size)
                        shape = KVShape(1, 1, block_size, num_kv_heads, head_dim)
                        group = num_heads // num_kv_heads
                        cutting = Cutting(group, 16, 128, piece_of(kv_bytes, group, head_dim), block_size)
                        moved = attention_traffic(metadata, cut(metadata, cutting), shape, num_heads, kv_bytes)
                        factors.append(moved.total / ideal_bytes(metadata, shape, kv_bytes))
                heads = f"{num_heads}/{num_kv_heads} heads of {head_dim}, {8 * kv_bytes}-bit KV"
                yield Row(f"{heads}, context {context}", "bytes", max(factors), 1.0, "ideal")


def print_model(rows: list[Row]) -> None:
    names = sorted({row.case.rsplit(", context ", 1)[0] for row in rows})
    factors = {row.case: row.ours for row in rows}
    print("| decode, bytes / ideal | " + " | ".join(f"{context // 1024}k" for context in CONTEXTS) + " |")
    print("|---|" + "---|" * len(CONTEXTS))
    for name in names:
        cells = (f"{factors[f'{name}, context {context}']:.3f}" for context in CONTEXTS)
        print(f"| {name} | " + " | ".join(cells) + " |")


def write_tables() -> None:
    """Anew, what each page has below its text."""
    for target in PROVED:
        command = (sys.executable, "-m", "stemma.kernels.triton.proof", target.name)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        page = PAGES / f"kernels-gpu-{target.name.replace('_', '')}.md"
        text = page.read_text("utf-8").partition("| kernel |")[0]
        page.write_text(text + table_of([json.loads(line) for line in done.stdout.splitlines()]), "utf-8")
        print(page, flush=True)


def table_of(found: list[dict[str, Any]]) -> str:
    """Markdown, of what proof.py says."""
    first = "| kernel | warps | registers | shared | programs / SM | occupancy | matrix instructions | async | load |"
    lines = [first, "|---|---|---|---|---|---|---|---|---|"]
    for row in sorted(found, key=lambda row: row["title"]):
        matrix = ", ".join(f"{count} {name}" for name, count in row["tensor_core"].items())
        lines.append(
            f"| {row['title']} | {row['num_warps']} | {row['registers']} | {row['shared']:,} | {row['programs']} "
            f"| {row['occupancy']:.0%} | {matrix or '-'} | {row['async_copies'] or '-'} | {row['widest_load']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", action="store_true", help="bytes moved against the ideal")
    what.add_argument("--tables", action="store_true", help="what the kernels compile to")
    parser.add_argument("--json", type=Path, help="write the rows of --model there")
    options = parser.parse_args()
    if options.tables:
        write_tables()
        return
    rows = list(byte_rows())
    print_model(rows)
    if options.json:
        options.json.write_text(json.dumps({"rows": [row.as_dict() for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
