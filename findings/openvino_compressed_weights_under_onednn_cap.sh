#!/usr/bin/env bash
# OpenVINO's CPU plugin chooses kernels by the CPU itself, not by what oneDNN is held to, and cannot run them then.
#
# Expected: ONEDNN_MAX_CPU_ISA=AVX2, oneDNN's variable for such tests, makes OpenVINO run as it would on a CPU with AVX2: in float32,
#           weights of 8 bits included.
# Happens:  on a CPU with AVX-512 it still says that it computes in bfloat16 (OPTIMIZATION_CAPABILITIES), and running raises
#           RuntimeError: with the hint bf16 for any product, and with the hint f32 for products with compressed weights.
#           Plain float32 weights with the hint f32 run.
# Why it matters: who compares runtimes on one instruction set, or caps oneDNN in production, cannot load quantised models;
#           benchmarks must hold OpenVINO to AVX2 with plain weights, or on such a machine.
# Versions: openvino 2026.4.1, numpy 2.4.6, Python 3.11, an x86 CPU with AVX-512. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "openvino==2026.4.1" "numpy==2.4.6" 2>/dev/null
ONEDNN_MAX_CPU_ISA=AVX2 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import openvino as ov
from openvino import opset13 as ops


def outcome(weights: str, hint: str) -> str:
    rows = ops.parameter([-1, 64], ov.Type.f32)
    matrix = ops.constant(np.ones((64, 64), np.float32))
    if weights == "compressed":
        codes, scales = ops.constant(np.ones((64, 2, 32), np.uint8)), ops.constant(np.ones((64, 2, 1), np.float16))
        grouped = ops.reshape(ops.multiply(ops.convert(codes, ov.Type.f16), scales), np.array([64, 64]), False)
        matrix = ops.convert(grouped, ov.Type.f32)
    model = ov.Model([ops.matmul(rows, matrix, False, True)], [rows])
    try:
        core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})(np.ones((2, 64), np.float32))
    except RuntimeError as error:
        return "RuntimeError" if "primitive descriptor" in str(error) else str(error)
    return "runs"


core = ov.Core()
says = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
seen = {(weights, hint): outcome(weights, hint) for weights in ("plain", "compressed") for hint in ("f32", "bf16")}
print("held to AVX2, it says that it computes in bfloat16:", says)
for (weights, hint), what in seen.items():
    print(f"{weights} weights, hint {hint}: {what}")
as_recorded = says and [*seen.values()] == ["runs", *["RuntimeError"] * 3]
print("as recorded" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
