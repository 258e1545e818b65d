"""Models whose layers remember in different ways (full, window, state), measured part by part.

    python benchmarks/hybrid.py --part turns [--json FILE] [--rounds 3] [--shapes lfm2,qwen35,llama]
        [--only chat,users,tree,unshared] [--peers llama.cpp,llama-server,transformers]
    python benchmarks/hybrid.py --part rates [--json FILE] [--scale 1.0] [--seeds 1,2,3]

A row is {"case", "metric", "ours", "peer", "peer_name", "ratio", "goal"}; ratio = ours / peer. Parts:

    turns        end to end beside llama.cpp and transformers, on models with random weights (`hybrid_turns.py`)
    rates        hit rates of the cache beside the placements of others, simulated (`hybrid_rates.py`)
    shares       how one budget of bytes is divided between tokens and marks (`hybrid_shares.py`)
    operations   where the time of these models goes (`hybrid_operations.py`)
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

import hybrid_operations
import hybrid_rates
import hybrid_shares
import hybrid_turns

PARTS = {
    "turns": hybrid_turns.run, "rates": hybrid_rates.run, "shares": hybrid_shares.run,
    "operations": hybrid_operations.run,
}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'case':28}{'metric':24}{'ours':>12}{'peer':>12}  {'':16}{'ratio':>8}  goal")
    for row in rows:
        print(f"{row['case']:28}{row['metric']:24}{row['ours']:12.4g}{row['peer']:12.4g}  {row['peer_name']:16}"
              f"{row['ratio']:8.3f}  {row.get('goal', '')}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), required=True)
    parser.add_argument("--json", type=Path)
    hybrid_turns.add_options(parser)
    hybrid_rates.add_options(parser)
    hybrid_shares.add_options(parser)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # stopped workers would stay for ever
    rows, notes = PARTS[options.part](options)
    table(rows)
    for name, reason in notes.items():
        print(f"{name}: {reason}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "notes": notes}, indent=1))


if __name__ == "__main__":
    main()
