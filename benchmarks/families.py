"""Every family as a GGUF file that is written as llama.cpp's converter writes it, against llama.cpp's own library.

    PYTHONPATH=. python benchmarks/families.py [--only gemma2,olmo2]

For each tiny configuration of the tests (random weights, F32): on how many of 100 positions the most likely token is
llama.cpp's, and how far the logits are apart, as a share of their spread. Where llama.cpp does not load the file, what
it says. Its library is npm's @node-llama-cpp/linux-x64, installed under ~/.cache/stemma-bench.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from mixes import FOLDER, LLAMA, POSITIONS, interpreter, library

from stemma.runtime.errors import StemmaError
from stemma.runtime.model import load
from stemma.runtime.model.families.register import FAMILIES
from tests.runtime.model.family_cases import CASES
from tests.runtime.model.gguf_families import write_family
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_gguf_families import random_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    wanted = set(filter(None, parser.parse_args().only.split(",")))
    interpreter(LLAMA)
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    ids = np.random.default_rng(3).integers(0, 256, POSITIONS).astype(np.int32)
    np.save(FOLDER / "ids.npy", ids)
    for family in (name for name in CASES if FAMILIES[name].gguf and (not wanted or name in wanted)):
        for index in range(len(CASES[family])):
            print(f"{family} {index}: {report(family, index, ids)}", flush=True)


def report(family: str, index: int, ids: np.ndarray) -> str:
    path = FOLDER / "family.gguf"
    path.unlink(missing_ok=True)
    try:
        write_family(path, random_model(family, index))
    except AssertionError as error:
        return f"the converter has no name for {error}"
    run = library("logits", path, FOLDER / "ids.npy", FOLDER / "logits.npy")
    if run.returncode:
        said = [line for line in run.stderr.decode(errors="replace").splitlines() if "error" in line.lower()]
        return f"llama.cpp does not run it ({(said or [''])[0][-120:]})"
    try:
        ours = all_logits(load(Path(path), reference_ops()).model, ids.tolist()).numpy()
    except StemmaError as error:
        return f"REFUSED: {error}"
    theirs = np.load(FOLDER / "logits.npy")
    same = int((ours.argmax(1) == theirs.argmax(1)).sum())
    return f"same argmax {same}/{len(ids)}, logits off by {np.abs(ours - theirs).max() / theirs.std(1).mean():.4f}"


if __name__ == "__main__":
    main()
