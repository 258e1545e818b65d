"""Stemma from `Engine()` to a first token: prints seconds and the process's peak of memory in MB. Arguments: the
model's file, tokens of the KV pool."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from stemma.runtime.engine import Engine

started = time.perf_counter()
with Engine(sys.argv[1], kv_tokens=int(sys.argv[2])) as engine:
    engine.generate([[*range(100, 132)]], max_tokens=1, temperature=0, ignore_eos=True)
    seconds = time.perf_counter() - started
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3
    print(json.dumps({"seconds": seconds, "peak": peak}))
