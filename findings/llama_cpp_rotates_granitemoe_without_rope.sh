#!/usr/bin/env bash
# llama.cpp rotates queries and keys of a `granitemoe` file that says it has no rotation; of a `granite` file it doesn't.
#
# Expected: `rope.scaling.finetuned` = false turns the rotation off: for Granite, llama.cpp's loader and converter use
#           the key as this switch, and with `granite` it works. In one layer without a rotation, the order of the tokens
#           before the last changes nothing but rounding.
# Happens:  with `granitemoe` the key is read (the library's log tells the two files apart), yet both files give the
#           same logits to the bit, which depend on the order.
# Why it matters: a Granite with experts and position_embedding_type "nope" gives other text, and no error is raised. The
#           converter writes false only for files with state space layers (`granitehybrid`), so this takes another
#           writer, or a key set by hand; whoever implements the format and compares is led to ignore the key.
# Versions: npm @node-llama-cpp/linux-x64 3.22.1 (llama.cpp v0.5.0), gguf 0.19.0, numpy 2.4.6, Python 3.11; needs npm
#           and Linux on x86. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "gguf==0.19.0" "numpy==2.4.6" 2>/dev/null
npm install --silent --ignore-scripts --prefix "$folder" "@node-llama-cpp/linux-x64@3.22.1"
"$folder/venv/bin/python" - "$folder/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64" "$folder" <<'PYTHON'
import ctypes
import sys
from pathlib import Path

import gguf
import numpy as np

SIZE, EXPERTS = 64, 4
libraries, folder = map(Path, sys.argv[1:])
ctypes.CDLL(str(libraries / "libggml-base.so"), ctypes.RTLD_GLOBAL)
ggml = ctypes.CDLL(str(libraries / "libggml.v0.5.0.so"), ctypes.RTLD_GLOBAL)
llama = ctypes.CDLL(str(libraries / "libllama.v0.5.0.so"))
logged = []
log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, _: logged.append(text))
llama.llama_log_set(log, None)
ggml.ggml_backend_load_all_from_path(str(libraries).encode())


class Settings(ctypes.Structure):  # more words than they have: what follows is not looked at
    _fields_ = [("words", ctypes.c_uint64 * 64)]


class Batch(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint64 * 7)]


for name, kind in {"llama_model_load_from_file": ctypes.c_void_p, "llama_init_from_model": ctypes.c_void_p,
                   "llama_batch_get_one": Batch, "llama_get_logits_ith": ctypes.POINTER(ctypes.c_float)}.items():
    getattr(llama, name).restype = kind


def write(architecture, rotated):
    path, random = folder / f"{architecture}-{rotated}.gguf", np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, architecture)
    numbers = {"block_count": 1, "context_length": 64, "embedding_length": SIZE, "feed_forward_length": SIZE,
               "attention.head_count": 2, "attention.head_count_kv": 2, "rope.dimension_count": SIZE // 2,
               "vocab_size": SIZE}
    names = ["token_embd", "output", "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output"]
    shapes = dict.fromkeys(names, (SIZE, SIZE))
    shapes |= dict.fromkeys(("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"), (SIZE,))
    ending, stack = "", ()
    if architecture == "granitemoe":
        numbers |= {"expert_count": EXPERTS, "expert_used_count": 2}
        shapes["blk.0.ffn_gate_inp"] = (EXPERTS, SIZE)
        ending, stack = "_exps", (EXPERTS,)
    shapes |= {f"blk.0.ffn_{part}{ending}": (*stack, SIZE, SIZE) for part in ("gate", "up", "down")}
    for key, number in numbers.items():
        writer.add_uint32(f"{architecture}.{key}", number)
    for key in ("attention.scale", "embedding_scale", "residual_scale", "logit_scale"):
        writer.add_float32(f"{architecture}.{key}", 1.0)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_bool(f"{architecture}.rope.scaling.finetuned", rotated)
    writer.add_tokenizer_model("none")
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape, np.float32) / 4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def last_logits(path, tokens):
    of_model, of_context = Settings(), Settings()
    llama.llama_model_default_params(ctypes.byref(of_model))
    llama.llama_context_default_params(ctypes.byref(of_context))
    model = ctypes.c_void_p(llama.llama_model_load_from_file(str(path).encode(), of_model))
    context = ctypes.c_void_p(llama.llama_init_from_model(model, of_context))
    batch = llama.llama_batch_get_one((ctypes.c_int32 * len(tokens))(*tokens), len(tokens))
    assert llama.llama_decode(context, batch) == 0
    return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (SIZE,)).copy()


said = {}
for architecture in ("granite", "granitemoe"):
    seen, reads = {}, []
    for rotated in (True, False):
        path = write(architecture, rotated)
        logged.clear()
        seen[rotated] = last_logits(path, [1, 2, 3, 4])
        seen[rotated, "otherwise"] = last_logits(path, [2, 3, 1, 4])
        reads.append(next(line.split(b"=")[1].strip().decode() for line in logged if b"rope_finetuned" in line))
    spread = seen[True].std()
    key = np.abs(seen[True] - seen[False]).max() / spread
    order = np.abs(seen[False] - seen[False, "otherwise"]).max() / spread
    print(f"{architecture}: rope.scaling.finetuned true and false, in the log: {' and '.join(reads)}")
    print(f"    logits of the two are apart by {key:.4f} of their spread")
    print(f"    with false, tokens 1 2 3 4 and 2 3 1 4 are apart by {order:.4f}")
    said[architecture] = (key > 0.1, order > 0.1, reads[0] != reads[1], bool(key == 0))
as_recorded = said == {"granite": (True, False, True, False), "granitemoe": (False, True, True, True)}
print("as recorded: the key is read, and granitemoe rotates all the same" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
