#!/usr/bin/env bash
# Triton's interpreter cuts a float32 that becomes a bfloat16 off, where a GPU rounds it.
#
# Expected: TRITON_INTERPRET=1 stores what the compiled kernel does: a float32 is rounded to the nearest bfloat16, as
#           torch does and as the GPU's conversion does.
# Happens:  the lower 16 bits are dropped. 1.01367 becomes 1.00781, whose neighbour 1.01562 is nearer; float16 is rounded.
# Why it matters: kernels are tested against torch in the interpreter where no GPU is at hand. A tolerance that suits the
#           GPU fails there, and one that suits the interpreter is twice as wide as need be and lets real faults through.
# Versions: triton 3.7.1, torch 2.13.0 (CPU), numpy 2.3, Python 3.11. Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu \
    "torch==2.13.0" "triton==3.7.1" "numpy==2.3.*" 2>/dev/null
cat >"$folder/store.py" <<'PYTHON'
import sys

import torch
import triton
import triton.language as tl


@triton.jit
def store(source, destination, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    tl.store(destination + place, tl.load(source + place).to(destination.dtype.element_ty))


numbers = torch.tensor([1 + 3.5 / 256, 1 + 1.75 / 1024, -(1 + 3.5 / 256), 3.0])
shown = {}
for dtype in (torch.bfloat16, torch.float16):
    stored = torch.empty(4, dtype=dtype)
    store[1,](numbers, stored, COUNT=4)
    shown[dtype] = stored.tolist() == numbers.to(dtype).tolist()
    print(f"{dtype}: {numbers.tolist()} -> {stored.tolist()}, torch says {numbers.to(dtype).tolist()}")
as_recorded = not shown[torch.bfloat16] and shown[torch.float16]
print("as recorded: bfloat16 is cut off, float16 is rounded" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/store.py"
