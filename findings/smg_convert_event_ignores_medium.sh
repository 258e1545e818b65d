#!/usr/bin/env bash
# SMG's converter of KV events removes a block that only a lower tier let go.
#
# Expected: an event in vLLM's form names its tier (`medium`: GPU, CPU, STORAGE); what leaves the disk is told as gone from the
#           disk, as the same package's relay (`kv_relay`) does.
# Happens:  `smg_grpc_servicer.kv_events.convert_event` makes the same message, without a tier, of a removal from the disk and of
#           one from the GPU: whoever reads it takes the block for gone though the GPU has it.
# Why it matters: a server with a disk tier that tells its events must not tell lower tiers to such readers, or prompts are
#           routed away from the replica that has their beginning.
# Versions: smg-grpc-servicer 0.14.1, msgspec 0.21.1, Python 3.11. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "smg-grpc-servicer==0.14.1" "msgspec==0.21.1" 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from dataclasses import dataclass

from smg_grpc_servicer.kv_events import convert_event
from smg_grpc_servicer.kv_relay import tier_of


@dataclass
class BlockRemoved:
    block_hashes: list[int]
    medium: str


gpu, disk = (convert_event(BlockRemoved([7], medium), 1) for medium in ("GPU", "STORAGE"))
print("from the GPU: ", str(gpu).split())
print("from the disk:", str(disk).split())
told_apart = tier_of("GPU") != tier_of("STORAGE")
print("the package's relay tells the two tiers apart:", told_apart)
as_recorded = gpu == disk and told_apart
print("as recorded" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
