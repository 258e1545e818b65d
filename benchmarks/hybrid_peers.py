"""Who takes part in `hybrid.py --part turns`, with the settings that each is fastest with, and what each keeps.

    stemma        the engine; the radix tree with its marks
    llama.cpp     npm's node-llama-cpp, a build for each kind of CPU; a slot a sequence, checkpoints of a sequence on
    llama-server  the same release's server, built here for this CPU from the sources that npm's package brings along;
                  context checkpoints and the memory for prompts of slots that were taken on (its defaults)
    transformers  bfloat16, caches of turns kept by hand (`past_key_values`), as its documents say

The server is left out where there is no cmake or compiler.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from peer_contenders import LLAMA, STORE, Contender, interpreter

SLOTS = 20
SLOT_TOKENS = 2304
KV_TOKENS = 48_000
SERVER_FOLDER = STORE / "llama-server"
BUILD_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
)  # fmt: skip
SERVER_OPTIONS = ("--flash-attn", "on", "--batch-size", "2048", "--ubatch-size", "512", "--no-warmup")

ALL = ("chat", "users", "tree")
STEMMA = Contender("stemma", "stemma_worker.py", "", arguments=(str(KV_TOKENS),), workloads=(*ALL, "unshared"))
STEMMA_COLD = Contender(
    "stemma-no-cache", STEMMA.script, "", arguments=(str(KV_TOKENS), "no-cache"), workloads=("unshared",)
)


def node(_shape: str, threads: int) -> Contender:
    arguments = (str(SLOTS), str(threads))
    return Contender("llama.cpp", LLAMA.script, LLAMA.environment, LLAMA.packages, arguments=arguments, workloads=ALL)


def transformers(shape: str, _threads: int) -> Contender:
    """This interpreter's; its weights are its own, as random as the file's."""
    return Contender("transformers", "hybrid_transformers_worker.py", "", arguments=(shape,), workloads=("chat",))


def server(_shape: str, threads: int) -> Contender | None:
    """llama-server, built if it is not there; None where it cannot be."""
    binary = SERVER_FOLDER / "llama-server"
    if not binary.exists() and (shutil.which("cmake") is None or not _is_built(binary)):
        return None
    arguments = (str(binary), str(SLOTS), str(SLOT_TOKENS), str(threads), *SERVER_OPTIONS)
    return Contender("llama-server", "llama_server_worker.py", "", arguments=arguments, workloads=ALL)


def _is_built(binary: Path) -> bool:
    interpreter(LLAMA)
    bundle = STORE / LLAMA.environment / "node_modules/node-llama-cpp/llama/gitRelease.bundle"
    source, build = SERVER_FOLDER / "source", SERVER_FOLDER / "build"
    SERVER_FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(source, ignore_errors=True)
    commands = [
        ["git", "clone", "--quiet", str(bundle), str(source)],
        ["cmake", "-S", str(source), "-B", str(build), *BUILD_OPTIONS],
        ["cmake", "--build", str(build), "--parallel", "2", "--target", "llama-server"],
    ]
    with (SERVER_FOLDER / "build.log").open("w") as log:
        for command in commands:
            if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
                print(f"llama-server is not built; see {log.name}")
                return False
    shutil.copy(build / "bin" / "llama-server", binary)
    return True


PEERS: dict[str, Callable[[str, int], Contender | None]] = {
    "llama.cpp": node, "llama-server": server, "transformers": transformers,
}  # fmt: skip
