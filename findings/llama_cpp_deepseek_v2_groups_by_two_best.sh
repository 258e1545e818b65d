#!/usr/bin/env bash
# llama.cpp scores DeepSeek V2's groups of experts by the sum of their two best, as V3 does, and so takes other experts.
#
# Expected: with topk_method "group_limited_greedy" a group is as good as its best expert, as the model's paper says it
#           and transformers' DeepseekV2 computes it.
# Happens:  llama.cpp has one rule for every model with groups, V3's. The same weights without groups give transformers'
#           logits; with groups they are far off for some tokens, and the same again once transformers' router is told
#           to add up the two best of a group.
# Why it matters: DeepSeek-V2, V2.5 and Coder-V2 of 236B have 8 groups, of which a token may use 3 (the Lite models have
#           one). For some tokens each layer computes other experts than the model was trained with, without an error.
# Versions: npm @node-llama-cpp/linux-x64 3.22.1 (llama.cpp v0.5.0), transformers 5.24.0, torch 2.13.0 (CPU),
#           gguf 0.19.0, numpy 2.4.6, Python 3.11; needs npm and Linux on x86. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps --extra-index-url https://download.pytorch.org/whl/cpu \
    "torch==2.13.0+cpu" 2>/dev/null
"$folder/venv/bin/pip" install --quiet "torch==2.13.0+cpu" "transformers==5.24.0" "gguf==0.19.0" "numpy==2.4.6" \
    2>/dev/null
npm install --silent --ignore-scripts --prefix "$folder" "@node-llama-cpp/linux-x64@3.22.1"
"$folder/venv/bin/python" - "$folder/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64" "$folder" <<'PYTHON'
import ctypes
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

SIZE, HEADS, NOPE, ROPE, VALUE, LATENT, EXPERTS, INNER = 64, 2, 32, 16, 32, 32, 16, 32
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "blk.0.attn_norm", "self_attn.q_a_proj": "blk.0.attn_q_a",
    "self_attn.q_a_layernorm": "blk.0.attn_q_a_norm", "self_attn.q_b_proj": "blk.0.attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "blk.0.attn_kv_a_mqa", "self_attn.kv_a_layernorm": "blk.0.attn_kv_a_norm",
    "self_attn.o_proj": "blk.0.attn_output", "post_attention_layernorm": "blk.0.ffn_norm",
    "mlp.gate": "blk.0.ffn_gate_inp", "mlp.experts.down_proj": "blk.0.ffn_down_exps",
    "mlp.shared_experts.gate_proj": "blk.0.ffn_gate_shexp", "mlp.shared_experts.up_proj": "blk.0.ffn_up_shexp",
    "mlp.shared_experts.down_proj": "blk.0.ffn_down_shexp",
}
libraries, folder = map(Path, sys.argv[1:])
ctypes.CDLL(str(libraries / "libggml-base.so"), ctypes.RTLD_GLOBAL)
ggml = ctypes.CDLL(str(libraries / "libggml.v0.5.0.so"), ctypes.RTLD_GLOBAL)
llama = ctypes.CDLL(str(libraries / "libllama.v0.5.0.so"))
silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, _: None)
llama.llama_log_set(silent, None)
ggml.ggml_backend_load_all_from_path(str(libraries).encode())


class Settings(ctypes.Structure):  # more words than they have: what follows is not looked at
    _fields_ = [("words", ctypes.c_uint64 * 64)]


class Batch(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint64 * 7)]


for name, kind in {"llama_model_load_from_file": ctypes.c_void_p, "llama_init_from_model": ctypes.c_void_p,
                   "llama_batch_get_one": Batch, "llama_get_logits": ctypes.POINTER(ctypes.c_float)}.items():
    getattr(llama, name).restype = kind


def random_model(groups):
    torch.manual_seed(0)
    config = transformers.DeepseekV2Config(
        vocab_size=SIZE, hidden_size=SIZE, intermediate_size=SIZE, num_hidden_layers=1, first_k_dense_replace=0,
        num_attention_heads=HEADS, q_lora_rank=32, kv_lora_rank=LATENT, qk_nope_head_dim=NOPE, qk_rope_head_dim=ROPE,
        v_head_dim=VALUE, n_routed_experts=EXPERTS, num_experts_per_tok=2, n_shared_experts=1,
        moe_intermediate_size=INNER, routed_scaling_factor=4.0, n_group=groups, topk_group=1,
        topk_method="group_limited_greedy" if groups > 1 else "greedy", initializer_range=0.3,
        max_position_embeddings=64,
    )
    model = transformers.DeepseekV2ForCausalLM(config).eval()
    with torch.no_grad():
        model.model.layers[0].mlp.gate.weight *= 0.1  # so that no expert outweighs all others
    return model


def pieces(name, values):
    if name == "self_attn.kv_b_proj":
        keys, rest = np.split(values.reshape(HEADS, NOPE + VALUE, LATENT), [NOPE], axis=1)
        return {"blk.0.attn_k_b": keys.swapaxes(1, 2), "blk.0.attn_v_b": rest}
    if name == "mlp.experts.gate_up_proj":
        return {"blk.0.ffn_gate_exps": values[:, :INNER], "blk.0.ffn_up_exps": values[:, INNER:]}
    return {NAMES[name]: values}


def write(model, groups):
    path = folder / f"{groups}.gguf"
    writer = gguf.GGUFWriter(path, "deepseek2")
    numbers = {
        "block_count": 1, "context_length": 64, "embedding_length": SIZE, "feed_forward_length": SIZE,
        "vocab_size": SIZE, "attention.head_count": HEADS, "attention.head_count_kv": 1, "attention.q_lora_rank": 32,
        "attention.kv_lora_rank": LATENT, "attention.key_length": LATENT + ROPE, "attention.value_length": LATENT,
        "attention.key_length_mla": NOPE + ROPE, "attention.value_length_mla": VALUE, "rope.dimension_count": ROPE,
        "leading_dense_block_count": 0, "expert_count": EXPERTS, "expert_used_count": 2, "expert_shared_count": 1,
        "expert_feed_forward_length": INNER, "expert_gating_func": 1,
    }
    if groups > 1:
        numbers |= {"expert_group_count": groups, "expert_group_used_count": 1}
    for key, number in numbers.items():
        writer.add_uint32(f"deepseek2.{key}", number)
    writer.add_float32("deepseek2.attention.layer_norm_rms_epsilon", model.config.rms_norm_eps)
    writer.add_float32("deepseek2.expert_weights_scale", 4.0)
    writer.add_tokenizer_model("none")
    for name, tensor in model.state_dict().items():
        place = name.removesuffix(".weight").removeprefix("model.layers.0.")
        for own, values in pieces(place, tensor.numpy()).items():
            writer.add_tensor(f"{own}.weight", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama_cpp(path, tokens):
    of_model, of_context = Settings(), Settings()
    llama.llama_model_default_params(ctypes.byref(of_model))
    llama.llama_context_default_params(ctypes.byref(of_context))
    model = ctypes.c_void_p(llama.llama_model_load_from_file(str(path).encode(), of_model))
    context = ctypes.c_void_p(llama.llama_init_from_model(model, of_context))
    count = len(tokens)
    ids, wanted = (ctypes.c_int32 * count)(*tokens), (ctypes.c_int8 * count)(*[1] * count)
    batch = llama.llama_batch_get_one(ids, count)
    batch.words[6] = ctypes.addressof(wanted)  # logits of every token, not of the last alone
    assert llama.llama_decode(context, batch) == 0
    return np.ctypeslib.as_array(llama.llama_get_logits(context), (count, SIZE)).copy()


def in_transformers(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def by_the_two_best(gate):
    def forward(hidden):
        scores = (hidden.reshape(-1, SIZE) @ gate.weight.T).softmax(-1).unflatten(1, (gate.num_group, -1))
        best = scores.sort(-1).values[..., -2:].sum(-1).argmax(-1, keepdim=True)
        kept = torch.where((torch.arange(gate.num_group) == best)[..., None], scores, 0.0)
        weights, experts = kept.flatten(1).topk(gate.top_k)
        return None, weights * gate.routed_scaling_factor, experts

    return forward


def compared(what, theirs, ours):
    off = np.abs(theirs - ours).max(1) / ours.std()
    same = int((theirs.argmax(1) == ours.argmax(1)).sum())
    print(f"{what}: same argmax {same} of {len(off)}, logits off by {off.max():.4f} of their spread at most,")
    print(f"    by more than 0.1 for {int((off > 0.1).sum())} tokens")
    return int((off > 0.1).sum())


tokens = np.random.default_rng(0).permutation(SIZE).tolist()
plain, grouped = random_model(1), random_model(4)
without = compared("without groups", llama_cpp(write(plain, 1), tokens), in_transformers(plain, tokens))
theirs = llama_cpp(write(grouped, 4), tokens)
with_groups = compared("one of 4 groups", theirs, in_transformers(grouped, tokens))
gate = grouped.model.layers[0].mlp.gate
gate.forward = by_the_two_best(gate)
patched = compared("and transformers by the two best", theirs, in_transformers(grouped, tokens))
as_recorded = without == patched == 0 and with_groups > 0
print("as recorded: a group is scored by its two best" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
