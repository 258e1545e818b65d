"""Every mix of storage types that llama.cpp's quantiser makes, of two models, against llama.cpp's own library.

    python benchmarks/mixes.py [--only Q4_K_M,IQ4_XS] [--model tiny|smol] [--keep]

The models: a random Llama whose sizes are multiples of 256, and SmolLM2-135M (576 wide, so that the quantiser falls
back to other types), dequantised to F16 from the default model. For each mix: the types it holds, and on how many of
100 positions the most likely token is llama.cpp's. Where it is not: how far the two tokens are apart in the logits of
the reference, in float64 over the same file, as a share of the logits' spread, and whose token the reference takes.

llama.cpp rounds activations to 8 bits for its products, so tokens that are closer than about a tenth of the spread are
decided by its rounding. Its library is npm's @node-llama-cpp/linux-x64, installed under ~/.cache/stemma-bench.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from peer_contenders import LLAMA, STORE, interpreter

from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.memory import Memory, make_plans
from stemma.kernels.ops import AttentionMetadata, Ops
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.errors import StemmaError
from stemma.runtime.model.load import load
from stemma.runtime.model.pull import default_model
from stemma.runtime.model.tiny import SPECIAL, byte_tokenizer

WORKERS = Path(__file__).parent / "peer_workers"
FOLDER = STORE / "mixes"
POSITIONS = 100
TEXT = """The harbour had been quiet for a week when the first ships of the season came in from the north. They carried
timber, salt and a good deal of news, most of it about the price of grain. Nobody in the town believed more than half of
what sailors said, but everybody came down to hear it, and by the evening the square behind the church was as full as on
a day of market. An old woman sold soup. Two boys had climbed the wall to see the flags, which were blue and white."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--model", choices=("tiny", "smol"), action="append")
    parser.add_argument("--keep", action="store_true", help="keep the quantised files")
    options = parser.parse_args()
    interpreter(LLAMA)
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = set(filter(None, options.only.split(",")))
    for name in options.model or ("tiny", "smol"):
        source, ids = (tiny_model if name == "tiny" else smol_model)()
        for kind in gguf.LlamaFileType:
            mix = kind.name.removeprefix("MOSTLY_")
            if kind.name != "GUESSED" and (not wanted or mix in wanted):
                target = FOLDER / f"{name}-{mix}.gguf"
                print(f"{name} {mix}: {report(source, target, kind.value, ids)}", flush=True)
                if not options.keep:
                    target.unlink(missing_ok=True)


def library(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    folder = STORE / LLAMA.environment / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
    command = [sys.executable, WORKERS / "llama_library.py", folder, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, check=False)


def report(source: Path, target: Path, ftype: int, ids: list[int]) -> str:
    made = library("quantise", source, target, ftype)
    if made.returncode:
        return f"not made by the quantiser ({made.stderr.decode(errors='replace').strip().splitlines()[-1][:100]})"
    types: dict[str, int] = {}
    for tensor in gguf.GGUFReader(target).tensors:
        types[tensor.tensor_type.name] = types.get(tensor.tensor_type.name, 0) + 1
    held = " ".join(f"{count} {type_}" for type_, count in sorted(types.items()))
    np.save(FOLDER / "ids.npy", np.array(ids, dtype=np.int32))
    run = library("logits", target, FOLDER / "ids.npy", FOLDER / "logits.npy")
    if run.returncode:
        return f"{held}: llama.cpp does not run it ({run.stderr.decode(errors='replace').strip()[-100:]})"
    theirs = np.load(FOLDER / "logits.npy")
    try:
        ours = logits(target, ids, CpuOps())
    except StemmaError as error:
        return f"{held}: REFUSED: {error}"
    return f"{held}: {compared(target, ids, ours, theirs)}"


def compared(target: Path, ids: list[int], ours: np.ndarray, theirs: np.ndarray) -> str:
    mine, other = ours.argmax(1), theirs.argmax(1)
    apart = np.flatnonzero(mine != other)
    spread = theirs.std(1).mean()
    said = f"same argmax {len(ids) - len(apart)}/{len(ids)}, logits off by {np.abs(ours - theirs).max() / spread:.3f}"
    if not len(apart):
        return said
    exact = logits(target, ids, ReferenceOps(torch.device("cpu"), torch.float64))
    margins = [abs(exact[row, mine[row]] - exact[row, other[row]]) / spread for row in apart]
    right = exact.argmax(1)
    mine_right, other_right = ((tokens == right)[apart].sum() for tokens in (mine, other))
    taken = f"the reference takes ours {mine_right}, theirs {other_right} times"
    return f"{said}; apart by at most {max(margins):.4f}, {taken}"


def logits(path: Path, ids: list[int], ops: Ops) -> np.ndarray:
    """After each token: one sequence, one step."""
    model = load(path, ops).model
    length = len(ids)
    places = np.arange(length, dtype=np.int32)
    metadata = AttentionMetadata(
        places, places, np.array([0, length], dtype=np.int32), np.array([length], dtype=np.int32),
        np.arange(-(-length // 16), dtype=np.int32)[None],
    )  # fmt: skip
    memory = Memory(ops.kv(model.config.memory_shape(-(-length // 16), 16).full))
    hidden = model.forward(np.array(ids, dtype=np.int32), make_plans(ops, metadata, memory), memory)
    return np.array(ops.rows.copy(model.logits(hidden, places)))


def smol_model() -> tuple[Path, list[int]]:
    source = FOLDER / "smol.gguf"
    if not source.exists():
        command = [sys.executable, WORKERS / "convert_gguf.py", default_model(), source, "F16"]
        subprocess.run(list(map(str, command)), check=True)
    ids = load(default_model(), CpuOps()).tokenizer.encode(TEXT)[:POSITIONS]
    assert len(ids) == POSITIONS
    return source, ids


def tiny_model() -> tuple[Path, list[int]]:
    """Random, with weights so large that tokens are apart."""
    source = FOLDER / "tiny.gguf"
    rng = np.random.default_rng(0)
    hidden, inner, layers, heads, kv_heads, vocabulary = 256, 768, 2, 4, 2, 512
    writer = gguf.GGUFWriter(source, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    tokens = sorted(byte_tokenizer().spec["model"]["vocab"].items(), key=lambda entry: entry[1])
    names = [*(token for token, _ in tokens), "th"] + [f"<{index}>" for index in range(len(tokens) + 1, vocabulary)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types([3 if name in SPECIAL or len(name) > 2 else 1 for name in names])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(SPECIAL["<|end|>"])

    def add(name: str, *shape: int) -> None:
        scale = 1.5 / shape[-1] ** 0.5 if len(shape) == 2 and name != "token_embd" else 1.0
        values = rng.standard_normal(shape) * scale if len(shape) == 2 else 1 + 0.1 * rng.standard_normal(shape)
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))

    add("token_embd", vocabulary, hidden)
    add("output_norm", hidden)
    add("output", vocabulary, hidden)
    for layer in range(layers):
        rows = {"attn_q": hidden, "attn_k": hidden // 2, "attn_v": hidden // 2, "attn_output": hidden}
        for name, count in rows.items():
            add(f"blk.{layer}.{name}", count, hidden)
        add(f"blk.{layer}.ffn_gate", inner, hidden)
        add(f"blk.{layer}.ffn_up", inner, hidden)
        add(f"blk.{layer}.ffn_down", hidden, inner)
        add(f"blk.{layer}.attn_norm", hidden)
        add(f"blk.{layer}.ffn_norm", hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return source, rng.integers(0, 256, POSITIONS).tolist()


if __name__ == "__main__":
    main()
