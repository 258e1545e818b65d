"""Greedy tokens of the default model, for a comparison of two machines: alone, together, and behind what is cached.

python tokens.py [FAR [DESCRIPTION [KIND]]]      a JSON object on the last line; kernels are kept in the folder FAR, and
                                                 made by the far_compiler.py that serves it: it says what the rest is
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

from stemma.runtime.engine import Engine
from stemma.runtime.model.load import assemble, read_checkpoint
from stemma.runtime.model.pull import default_model
from tests.kernels.cpu.emulated.far_compiler import take_part
from tests.kernels.cpu.test_identity import logits
from tests.kernels.on_tensors import tensor_ops

PROMPTS = ["The capital of France is", "Once upon a time there was a miller who", "def fibonacci(n):"]
TOKENS, CACHED, ALONE = 32, 24, 4


def main() -> None:
    ops = tensor_ops()
    loaded = assemble(read_checkpoint(default_model()), ops)
    prompts = [loaded.tokenizer.encode(prompt) for prompt in PROMPTS]
    with Engine.of(loaded, kv_tokens=1024) as engine:

        def greedy(tokens: list[list[int]], number: int) -> list[list[int]]:
            done = engine.generate(tokens, max_tokens=number, temperature=0, ignore_eos=True)
            return [list(each.tokens) for each in done]

        started = time.monotonic()
        together = greedy([list(prompt) for prompt in prompts], TOKENS)
        took = time.monotonic() - started
        (alone,) = greedy([list(prompts[1])], ALONE)
        (behind,) = greedy([[*prompts[0], *together[0][:CACHED]]], TOKENS - CACHED)
    assert alone == together[1][:ALONE], "a row's tokens depend on its company"
    assert behind == together[0][CACHED:], "tokens depend on what is cached"
    (rows,) = logits(loaded, [list(prompts[2])])
    digest = hashlib.sha256(rows.numpy().tobytes()).hexdigest()
    found = {"target": ops.target.name, "tokens": together, "bits of logits": digest}
    print(f"{TOKENS} tokens of {len(PROMPTS)} prompts in {took:.0f} s", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:]:
        take_part(Path(sys.argv[1]), *sys.argv[2:])
    main()
