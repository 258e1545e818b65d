#!/usr/bin/env bash
# gguf's writer of big-endian files leaves the bytes of BF16 and block formats in little-endian order.
#
# Expected: GGUFWriter(endianess=BIG) writes a file whose numbers all have the big end first, as its header says.
# Happens:  float32 tensors are swapped; what is handed over as bytes (BF16, and the float16 scales inside blocks such as
#           Q4_0) is written as it is, so a reader that swaps by the header reads other weights, and no error is raised.
# Why it matters: quantised files converted for big-endian machines hold wrong scales; whoever reads them must know which
#           tool wrote them, since the repository's own converter of byte order does swap inside blocks.
# Versions: gguf 0.19.0, numpy 2.4.6, Python 3.11. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "gguf==0.19.0" "numpy==2.4.6" 2>/dev/null
"$folder/venv/bin/python" - "$folder/big.gguf" <<'PYTHON'
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

values = np.full((1, 32), 1.5, dtype=np.float32)
values[0, 0] = -12.0  # the largest gives a Q4_0 block the scale 1.5
writer = gguf.GGUFWriter(sys.argv[1], "llama", endianess=gguf.GGUFEndian.BIG)
writer.add_tensor("plain", values)
for kind in (Kind.BF16, Kind.Q4_0):
    writer.add_tensor(kind.name, gguf.quants.quantize(values, kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
data = open(sys.argv[1], "rb").read()
start = data.index(np.array(-12.0, dtype=">f4").tobytes())  # the first tensor, aligned to 32 bytes
bf16, q4_0 = data[start + 128 : start + 130], data[start + 192 : start + 194]
print("magic and version:", data[:8].hex(" "), "(version 3 with the big end first)")
print("float32 -12.0:", data[start : start + 4].hex(" "))
print("bfloat16 -12.0:", bf16.hex(" "), "(c1 40 with the big end first)")
print("scale of the Q4_0 block, float16 1.5:", q4_0.hex(" "), "(3e 00 with the big end first)")
as_recorded = bf16 == b"\x40\xc1" and q4_0 == b"\x00\x3e"
print("as recorded: the bytes inside are little-endian" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
