"""From nothing to the first token, in processes of their own, beside llama.cpp and OpenVINO.

    python benchmarks/start.py [--models default,Q4_K_M,Q8_0,BF16] [--peers llama.cpp,openvino] [--times 5] [--json F]

    warm           everything was used before: files are in the page cache, kernels compiled
    first          with an empty STEMMA_CACHE; the peers, which keep nothing, once more as they are
    ..., a schema  the first request of the process is for JSON by a schema

token s    from before the library is imported to the first token     spawn s    the same from when the process is made
ready s    to when a request can be made                              peak MB    memory of the process

All are started in turn, `--times` times after a time that does not count; medians. Python may keep its bytecode, as it
does where packages are installed. Models: the default one, and a random Llama of 1.1B parameters in three formats.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from peer_contenders import NODE_LLAMA, OPENVINO, Contender, interpreter
from random_models import FORMATS, SHAPES, write

from stemma.runtime.model.pull import default_model

CONTENDERS = {
    each.name: each
    for each in (
        Contender("stemma", "start_stemma.py", ""),
        Contender("llama.cpp", "start_llama.mjs", "node-llama", NODE_LLAMA, arguments=("2",)),
        Contender("openvino", "start_openvino.py", "openvino-genai", OPENVINO),
    )
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 40}, "age": {"type": "integer"},
                   "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 4}},
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}  # fmt: skip
METRICS = ("token s", "spawn s", "ready s", "peak MB")


class Start(NamedTuple):
    """One start, by METRICS."""

    token: float
    spawn: float
    ready: float
    peak: float


def start(command: list[str], cache: Path | None) -> Start:
    """Raises RuntimeError if the process says no token. cache: Stemma's own, in place of that of the user."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if cache is not None:
        environment["STEMMA_CACHE"] = str(cache)
    began = time.perf_counter()
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert worker.stdout is not None
    line = worker.stdout.readline()
    spawn = time.perf_counter() - began
    worker.stdout.read()
    _, _, used = os.wait4(worker.pid, 0)
    if not line:
        raise RuntimeError(f"{command[-2:]} ended without a token")
    told = json.loads(line)
    peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return Start(told["token"], spawn, told["ready"], peak)


def case(model: Path, peers: list[str], times: int, *, first: bool, schema: bool) -> dict[str, Start]:
    """Medians, by contender; those that cannot are left out, and told."""
    found: dict[str, list[Start]] = {name: [] for name in ("stemma", *peers)}
    for number in range(times + 1):
        for name in list(found):
            contender = CONTENDERS[name]
            command = [*interpreter(contender), str(model), *contender.arguments]
            command += [json.dumps(SCHEMA)] if schema else []
            with tempfile.TemporaryDirectory() as folder:
                try:
                    measured = start(command, Path(folder) if first and name == "stemma" else None)
                except RuntimeError as error:
                    print(f"    {name}: {error}", flush=True)
                    del found[name]
                    continue
            if number:
                found[name].append(measured)
    return {name: Start(*map(statistics.median, zip(*starts, strict=True))) for name, starts in found.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(("default", *FORMATS)))
    parser.add_argument("--peers", default="llama.cpp,openvino")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'case':34}{'metric':10}{'stemma':>10}{'peer':>10}  {'':12}{'ratio':>6}")
    for name in options.models.split(","):
        model = default_model() if name == "default" else write(SHAPES["1b"], name)
        for label, first, schema in (("warm", False, False), ("warm, a schema", False, True),
                                     ("first", True, False), ("first, a schema", True, True)):  # fmt: skip
            found = case(model, options.peers.split(","), options.times, first=first, schema=schema)
            ours = found.pop("stemma")
            for peer_name, measured in found.items():
                for metric, own, peer in zip(METRICS, ours, measured, strict=True):
                    rows.append({"case": f"{model.stem}, {label}", "metric": metric, "ours": own, "peer": peer,
                                 "peer_name": peer_name, "ratio": own / peer})  # fmt: skip
                    print(f"{f'{name}, {label}':34}{metric:10}{own:10.3f}{peer:10.3f}  {peer_name:12}{own / peer:6.2f}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
