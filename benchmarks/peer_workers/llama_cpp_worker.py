"""llama.cpp's server (as the wheel `xllamacpp` ships it) behind the workers' protocol. Arguments: the file, slots.

This build knows AVX2 only; `llama_node_worker.mjs` has one for each kind of CPU, but not the server's batching."""

from __future__ import annotations

import json
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xllamacpp
from protocol import Request, serve

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_parallel = int(sys.argv[2])
params.n_ctx = params.n_parallel * 2304
params.cpuparams.n_threads = 2
params.cpuparams_batch.n_threads = 2
params.verbosity = 0
server = xllamacpp.Server(params)
pool = ThreadPoolExecutor(params.n_parallel)


def complete(request: Request, prompt: list[int]) -> Any:
    body: dict[str, Any] = {
        "prompt": request.get("text", prompt), "n_predict": request["max"], "temperature": 0, "cache_prompt": True,
        "ignore_eos": "schema" not in request, "return_tokens": True,
    }  # fmt: skip
    if "schema" in request:
        body["json_schema"] = request["schema"]
    sent = urllib.request.Request(
        f"{server.listening_address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(sent) as answer:
        result = json.load(answer)
    return result["content"] if "schema" in request else result["tokens"]


serve(lambda requests, prompts: list(pool.map(complete, requests, prompts)))
