"""What an engine on the CPU's kernels does without: packages that take long to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from stemma.kernels.select import select_ops
from tests.runtime.model.gguf_writing import write_gguf
from tests.runtime.model.test_gguf_file import random_model

PROGRAM = """
import sys
from stemma import Engine
with Engine(sys.argv[1]) as llm:
    warm = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2, "logit_bias": {65: 1.0}, "logprobs": 3}
    assert len(llm.generate("hello", max_tokens=3).tokens) == 3
    assert len(llm.generate("hello", **warm, max_tokens=3, seed=1).logprobs) == 3
    assert len(llm.embed("hello").vector)
slow = {"torch", "triton", "transformers", "safetensors", "huggingface_hub", "numba", "rich"}
print(*sorted(slow & set(sys.modules)))
"""


@pytest.mark.skipif(select_ops().name != "cpu", reason="this machine has no vectors, and runs the reference")
def test_neither_torch_nor_what_brings_it_is_imported(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", random_model(transformers.LlamaConfig), "Q8_0")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "model.gguf")], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
