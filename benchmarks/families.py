"""Every family as a GGUF file that is written as llama.cpp's converter writes it, against llama.cpp's own library.

    PYTHONPATH=. python benchmarks/families.py [--only gemma2,olmo2]

For each tiny configuration of the tests (random weights, F32): on how many of 100 positions the most likely token is
llama.cpp's, and how far the logits are apart, as a share of their spread. Where a token is another: how far the two are
apart in the logits of the reference, in float64 over the same file, and whether that is a near tie (llama.cpp has keys
and values in float16). Where llama.cpp does not load the file, what it says. Its library is npm's
@node-llama-cpp/linux-x64, installed under ~/.cache/stemma-bench.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from mixes import LLAMA, POSITIONS, STORE, interpreter, library

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.errors import StemmaError
from stemma.runtime.model import load
from stemma.runtime.model.families.register import FAMILIES
from tests.runtime.model import minicpm_cases
from tests.runtime.model.family_cases import CASES
from tests.runtime.model.gguf_families import write_family
from tests.runtime.model.minicpm_cases import unscaled
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_gguf_families import UNSAID, random_model

FOLDER = STORE / "families"
MODELS = {name: len(CASES[name]) for name in CASES if FAMILIES[name].gguf} | {"minicpm": len(minicpm_cases.CASES)}
NEAR = 0.01
"""A share of the logits' spread that llama.cpp's rounding may decide."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    wanted = set(filter(None, parser.parse_args().only.split(",")))
    interpreter(LLAMA)
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    ids = np.random.default_rng(3).integers(0, 256, POSITIONS).astype(np.int32)
    np.save(FOLDER / "ids.npy", ids)
    for family in (name for name in MODELS if not wanted or name in wanted):
        for index in range(MODELS[family]):
            said = "the converter has no keys for it" if index in UNSAID.get(family, ()) else report(family, index, ids)
            print(f"{family} {index}: {said}", flush=True)


def report(family: str, index: int, ids: np.ndarray) -> str:
    path = FOLDER / "family.gguf"
    path.unlink(missing_ok=True)
    try:
        write_family(path, unscaled(index) if family == "minicpm" else random_model(family, index))
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
    return compared(path, ids, ours, np.load(FOLDER / "logits.npy"))


def compared(path: Path, ids: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> str:
    mine, other, spread = ours.argmax(1), theirs.argmax(1), theirs.std(1).mean()
    apart, off = np.flatnonzero(mine != other), np.abs(ours - theirs).max(1) / spread
    far = f"logits off by {off.max():.4f} (median of the rows {np.median(off):.4f})"
    said = f"same argmax {len(ids) - len(apart)}/{len(ids)}, {far}"
    if not len(apart):
        return said
    exact = all_logits(load(path, ReferenceOps(torch.device("cpu"), torch.float64)).model, ids.tolist()).numpy()
    margins = np.abs(exact[apart, mine[apart]] - exact[apart, other[apart]]) / spread
    verdict = "near ties" if margins.max() < NEAR else "ANOTHER TOKEN"
    ours_right = int((exact.argmax(1) == mine)[apart].sum())
    return f"{said}; {verdict}: apart by at most {margins.max():.5f}, ours is the reference's {ours_right} times"


if __name__ == "__main__":
    main()
