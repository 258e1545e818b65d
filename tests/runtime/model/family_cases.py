"""Tiny configurations of every family, by Hugging Face's `model_type`: what each switch of a family does to a small
model. The first of a family is the plainest, and every other changes the numbers."""

from __future__ import annotations

from typing import Any

SHARED: dict[str, Any] = {
    "vocab_size": 260, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024, "initializer_range": 0.15,
    "bos_token_id": 258, "eos_token_id": 256, "pad_token_id": 259,
}  # fmt: skip


def rope(kind: str = "default", theta: float = 10000.0, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


def windows(*flags: int) -> dict[str, Any]:
    kinds = ["sliding_attention" if flag else "full_attention" for flag in flags]
    return {"layer_types": kinds, "sliding_window": 40, "num_hidden_layers": len(flags)}


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=128)
SHORT, LONG = [1.0, 1.1, 1.3, 1.5, 2.0, 2.5, 3.0, 4.0], [float(n) for n in range(1, 9)]
LONGROPE = rope("longrope", short_factor=SHORT, long_factor=LONG)
QUERIES = rope(llama_4_scaling_beta=0.3, original_max_position_embeddings=650)
TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}
BIASED = {"attention_bias": True}
QWEN_EXPERTS: dict[str, Any] = {
    "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48
}  # fmt: skip
QWEN3_EXPERTS: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
OLMO_EXPERTS: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "num_key_value_heads": 4}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4, "kv_lora_rank": 32, "q_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 12, "head_dim": 8,
}  # fmt: skip
LATENT_EXPERTS: dict[str, Any] = {
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
    "n_shared_experts": 1, "n_group": 4, "topk_group": 2,
}  # fmt: skip
DEEP_YARN = rope("yarn", factor=8.0, original_max_position_embeddings=64, mscale=1.0, mscale_all_dim=0.8)
EVEN_YARN = rope("yarn", factor=8.0, original_max_position_embeddings=64, mscale=0.7, mscale_all_dim=0.7)
GLM_EXPERTS: dict[str, Any] = {
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1
}  # fmt: skip
DELTA: dict[str, Any] = {  # norms that multiply by 2 and more make random models large
    "initializer_range": 0.08,
    "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4,
}  # fmt: skip
EXPERT_DELTA: dict[str, Any] = {**DELTA, **QWEN_EXPERTS}
EVERY_THIRD: dict[str, Any] = {"layer_types": None, "full_attention_interval": 3, "num_hidden_layers": 3}
CONV: dict[str, Any] = {"layer_types": ["conv", "full_attention"], "block_multiple_of": 24}
CONV_EXPERTS: dict[str, Any] = {
    "layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": 3, "num_experts": 8,
    "num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_dense_layers": 1,
}  # fmt: skip
GEMMA4: dict[str, Any] = {
    **windows(1, 0, 1, 0), "global_head_dim": 32, "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 300
}  # fmt: skip
PLAIN: dict[str, Any] = {}
MAMBA2: dict[str, Any] = {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 2}
FALCON: dict[str, Any] = {"mamba_d_ssm": 96, "mamba_n_heads": 6, "mamba_n_groups": 2, "mamba_d_state": 16}
FACTORS: dict[str, Any] = {
    "embedding_multiplier": 3.0, "lm_head_multiplier": 0.3, "key_multiplier": 0.4, "attention_in_multiplier": 1.3,
    "attention_out_multiplier": 0.7, "mlp_multipliers": [0.6, 1.7], "ssm_multipliers": [0.5, 0.8, 1.4, 0.9, 1.2],
    "ssm_in_multiplier": 1.5, "ssm_out_multiplier": 0.6,
}  # fmt: skip
NEMOTRON: dict[str, Any] = {
    "layers_block_type": ["mamba", "moe", "attention", "mlp"], "mamba_num_heads": 8, "mamba_head_dim": 16,
    "n_groups": 2, "ssm_state_size": 16, "n_routed_experts": 8, "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 48,
}  # fmt: skip
GRANITE_STATES: dict[str, Any] = {
    "num_local_experts": 0, "shared_intermediate_size": 80, "mamba_n_heads": 8, "mamba_n_groups": 2,
    "mamba_d_state": 16, "num_hidden_layers": 3, "position_embedding_type": None,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}  # fmt: skip

CASES: dict[str, list[dict[str, Any]]] = {
    "llama": [
        PLAIN, TIED, {"num_key_value_heads": 4}, {"num_key_value_heads": 1}, BIASED, {"head_dim": 32}, LLAMA3,
        {"mlp_bias": True}, {"hidden_act": "gelu"}, rope("linear", factor=4.0), YARN,
        rope("yarn", factor=4.0, original_max_position_embeddings=128, mscale=0.7, mscale_all_dim=0.4, truncate=False),
        rope("yarn", factor=8.0, original_max_position_embeddings=64, attention_factor=1.3, beta_fast=16, beta_slow=2),
    ],
    "ministral": [windows(1, 0), windows(0, 1), {"sliding_window": 40, "tie_word_embeddings": True}],
    "mistral": [{"sliding_window": None}, {"sliding_window": 40}, TIED],
    "qwen2": [PLAIN, rope(theta=1e6), {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 40}, TIED],
    "qwen3": [PLAIN, TIED, BIASED, YARN, {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 40}],
    "arcee": [PLAIN, {"mlp_bias": True}, BIASED, {"hidden_act": "silu"}, YARN],
    "cohere2": [{"num_hidden_layers": 4}, windows(0, 1), {**windows(1, 1), "logit_scale": 0.5}, BIASED, UNTIED],
    "ernie4_5": [PLAIN, {"use_bias": True}, UNTIED, rope(theta=1e4)],
    "exaone4": [
        {**windows(0, 0), "sliding_window": None}, windows(1, 0), windows(1, 1),
        {"sliding_window": 40, "sliding_window_pattern": 2, "num_hidden_layers": 3},
    ],
    "falcon_h1": [
        FALCON, {**FALCON, "mamba_rms_norm": True}, {**FALCON, "mamba_rms_norm": True, "mamba_norm_before_gate": False},
        {**FALCON, "mamba_n_groups": 1, "mamba_d_ssm": None, "mamba_n_heads": 8}, {**FALCON, **FACTORS},
        {**FALCON, **FACTORS, **BIASED, "mlp_bias": True, "mamba_proj_bias": True, "projectors_bias": True,
         "mamba_conv_bias": False},
        {**FALCON, "time_step_limit": [0.5, 1.2]}, {**FALCON, **TIED, **rope(theta=1e6)},
    ],
    "gemma": [PLAIN, UNTIED, BIASED, {"hidden_act": "silu"}],
    "gemma2": [
        PLAIN, windows(1, 0), {"query_pre_attn_scalar": 40}, {"attn_logit_softcapping": 2.0},
        {"final_logit_softcapping": 3.0}, {"attn_logit_softcapping": None, "final_logit_softcapping": None}, BIASED,
        {"hidden_activation": "silu"},
    ],
    "gemma3_text": [
        PLAIN, windows(1, 0), {"query_pre_attn_scalar": 40}, {"final_logit_softcapping": 3.0},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                             "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}}, **windows(1, 0)},
    ],
    "gemma4_text": [
        GEMMA4, {**GEMMA4, "num_kv_shared_layers": 2},
        {**GEMMA4, "num_kv_shared_layers": 2, "use_double_wide_mlp": True},
        {**GEMMA4, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
        {**GEMMA4, "hidden_size_per_layer_input": 0},
        {**GEMMA4, "final_logit_softcapping": 3.0}, {**GEMMA4, "global_head_dim": 16}, {**GEMMA4, **BIASED},
        {**GEMMA4, "hidden_activation": "silu"}, {**GEMMA4, **UNTIED},
        {**GEMMA4, "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 8, "top_k_experts": 2,
         "moe_intermediate_size": 32},
        {**GEMMA4, "rope_parameters": {
            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}}},
    ],
    "glm": [PLAIN, {"attention_bias": False}, rope(partial_rotary_factor=1.0)],
    "glm4": [PLAIN, {"attention_bias": False}, rope(partial_rotary_factor=1.0), TIED],
    "granite": [
        PLAIN, {"attention_multiplier": 0.1}, {"embedding_multiplier": 3.0}, {"residual_multiplier": 0.4},
        {"logits_scaling": 4.0}, BIASED, {"mlp_bias": True},
    ],
    "granitemoehybrid": [
        GRANITE_STATES, {**GRANITE_STATES, "position_embedding_type": "rope"}, {**GRANITE_STATES, "mamba_n_groups": 1},
        {**GRANITE_STATES, "residual_multiplier": 0.4, "embedding_multiplier": 3.0, "attention_multiplier": 0.1},
        {**GRANITE_STATES, "num_local_experts": 4, "num_experts_per_tok": 3, "residual_multiplier": 0.4},
        {**GRANITE_STATES, "mamba_proj_bias": True, "mamba_conv_bias": False, "time_step_limit": [0.5, 1.2]},
        {**GRANITE_STATES, "mamba_expand": 3, "mamba_n_heads": 12, "mamba_d_conv": 3, "shared_intermediate_size": 96},
    ] + [
        {**kind, "num_local_experts": 0, "shared_intermediate_size": 80, "layer_types": ["full_attention"] * 2}
        for kind in ({"position_embedding_type": "rope"}, {"position_embedding_type": None},
                     {"position_embedding_type": "rope", "attention_multiplier": 0.1, "logits_scaling": 3.0})
    ] + [
        {"position_embedding_type": kind, "num_local_experts": 4, "num_experts_per_tok": 3,
         "shared_intermediate_size": 80, "residual_multiplier": 0.4, "layer_types": ["full_attention"] * 2}
        for kind in ("rope", None)
    ],
    "hunyuan_v1_dense": [PLAIN, BIASED, rope("dynamic", alpha=50.0, factor=1.0), TIED],
    "mamba2": [
        MAMBA2, TIED | MAMBA2, {**MAMBA2, "n_groups": 1}, {**MAMBA2, "use_bias": True},
        {**MAMBA2, "use_conv_bias": False}, {**MAMBA2, "conv_kernel": 3, "expand": 3, "num_heads": 12},
        {**MAMBA2, "time_step_limit": [0.5, 1.2]},
    ],
    "ministral3": [PLAIN, QUERIES, {**QUERIES, "sliding_window": 40}],
    "nemotron_h": [
        NEMOTRON, {**NEMOTRON, "layers_block_type": ["mamba", "attention", "mlp", "mamba"]},
        {**NEMOTRON, "layers_block_type": ["mamba", "mlp", "attention"], "use_bias": True, "mlp_bias": True,
         "use_conv_bias": False},
        {**NEMOTRON, "conv_kernel": 3, "n_group": 4, "topk_group": 2},
        {**NEMOTRON, "norm_topk_prob": False, "routed_scaling_factor": 2.5, "num_experts_per_tok": 3,
         "layers_block_type": ["mamba", "moe", "attention", "moe"]},
        {**NEMOTRON, "mlp_hidden_act": "silu"},
        {**NEMOTRON, "layers_block_type": ["attention", "mamba", "mlp"], "n_groups": 1, "mamba_num_heads": 6, **TIED},
    ],
    "olmo2": [PLAIN, BIASED, TIED, LLAMA3],
    "olmo3": [
        PLAIN, windows(1, 0),
        {**windows(1, 0), "rope_parameters": {"full_attention": YARN["rope_parameters"],
                                              "sliding_attention": rope()["rope_parameters"]}},
    ],
    "phi3": [
        PLAIN, {"sliding_window": 40}, rope(partial_rotary_factor=0.5),
        {**LONGROPE, "original_max_position_embeddings": 700},
        {**rope("longrope", short_factor=SHORT[:4], long_factor=LONG[:4], partial_rotary_factor=0.5),
         "original_max_position_embeddings": 800},
    ],
    "seed_oss": [PLAIN, {"attention_out_bias": True}, {"attention_bias": False}, {"mlp_bias": True}],
    "smollm3": [
        {"num_hidden_layers": 4}, {"no_rope_layers": [1, 0]}, {"no_rope_layers": [0, 0], **UNTIED},
        {"no_rope_layers": [1, 0], "use_sliding_window": True, "sliding_window": 40}, {**YARN, **BIASED},
    ],
    "stablelm": [
        PLAIN, {"use_parallel_residual": True}, {"use_qkv_bias": True}, rope(partial_rotary_factor=0.5), TIED,
        {"qk_layernorm": True}, {"qk_layernorm": True, "use_parallel_residual": True},
    ],
    "qwen2_moe": [
        QWEN_EXPERTS, {**QWEN_EXPERTS, "norm_topk_prob": True}, {**QWEN_EXPERTS, "mlp_only_layers": [0]},
        {**QWEN_EXPERTS, "decoder_sparse_step": 2}, {**QWEN_EXPERTS, "qkv_bias": False},
        {**QWEN_EXPERTS, "use_sliding_window": True, "sliding_window": 40},
    ],
    "qwen3_moe": [
        QWEN3_EXPERTS, {**QWEN3_EXPERTS, "norm_topk_prob": True}, {**QWEN3_EXPERTS, "mlp_only_layers": [1]},
        {**QWEN3_EXPERTS, **BIASED},
    ],
    "mixtral": [
        {"num_local_experts": 4}, {"num_local_experts": 4, "num_experts_per_tok": 3},
        {"num_local_experts": 4, "sliding_window": 40},
    ],
    "olmoe": [
        OLMO_EXPERTS, {**OLMO_EXPERTS, "num_experts_per_tok": 5}, {**OLMO_EXPERTS, "norm_topk_prob": True},
    ],
    "granitemoe": [
        {"num_local_experts": 4}, {"num_local_experts": 4, "num_experts_per_tok": 3},
        {"num_local_experts": 4, "residual_multiplier": 0.4, "attention_multiplier": 0.2},
    ],
    "granitemoeshared": [
        {"num_local_experts": 4, "shared_intermediate_size": 48}, {"num_local_experts": 4},
        {"num_local_experts": 4, "shared_intermediate_size": 48, "residual_multiplier": 0.4, "logits_scaling": 3.0},
    ],
    "glm4_moe": [
        GLM_EXPERTS, {**GLM_EXPERTS, "n_group": 4, "topk_group": 2}, {**GLM_EXPERTS, "norm_topk_prob": False},
        {**GLM_EXPERTS, "routed_scaling_factor": 2.5, "first_k_dense_replace": 0, "use_qk_norm": True},
        {**GLM_EXPERTS, "n_shared_experts": 2, **BIASED},
    ],
    "gpt_oss": [
        {"num_local_experts": 4, "num_experts_per_tok": 2, **rope(theta=150000.0)},
        {"num_local_experts": 4, "num_experts_per_tok": 2, **windows(1, 1), **rope(theta=150000.0)},
        {"num_local_experts": 4, "num_experts_per_tok": 3, **YARN},
    ],
    "deepseek_v2": [
        {**LATENT, **LATENT_EXPERTS, "topk_method": "greedy"}, {**LATENT, **LATENT_EXPERTS, "q_lora_rank": None},
        {**LATENT, **LATENT_EXPERTS, "topk_method": "group_limited_greedy", "topk_group": 1,
         "routed_scaling_factor": 2.0},
        {**LATENT, **LATENT_EXPERTS, **DEEP_YARN}, {**LATENT, **LATENT_EXPERTS, **EVEN_YARN},
    ],
    "deepseek_v3": [
        {**LATENT, **LATENT_EXPERTS}, {**LATENT, **LATENT_EXPERTS, "rope_interleave": False},
        {**LATENT, **LATENT_EXPERTS, **DEEP_YARN}, {**LATENT, **LATENT_EXPERTS, "norm_topk_prob": False, **BIASED},
        {**LATENT, **LATENT_EXPERTS, "norm_topk_prob": False, "q_lora_rank": None, **EVEN_YARN},
    ],
    "minicpm3": [
        LATENT, {**LATENT, "scale_emb": 3, "dim_model_base": 32}, {**LATENT, "scale_depth": None, "q_lora_rank": None},
        {**LATENT, **rope("longrope", short_factor=[1.0, 1.5, 2.0, 3.0], long_factor=[2.0] * 4,
                          original_max_position_embeddings=700)},
    ],
    "qwen3_next": [
        EXPERT_DELTA, {**EXPERT_DELTA, "norm_topk_prob": False}, {**EXPERT_DELTA, "mlp_only_layers": [0]},
        {**EXPERT_DELTA, **EVERY_THIRD}, {**EXPERT_DELTA, **BIASED, **TIED},
        {**EXPERT_DELTA, **rope(partial_rotary_factor=0.5)}, {**EXPERT_DELTA, "decoder_sparse_step": 2},
    ],
    "qwen3_5_text": [
        DELTA, TIED | DELTA, {**DELTA, "linear_num_value_heads": 2}, {**DELTA, **EVERY_THIRD},
        {**DELTA, "linear_conv_kernel_dim": 3, "linear_num_value_heads": 6}, {**DELTA, "linear_value_head_dim": 16},
        {**DELTA, "linear_key_head_dim": 16, "linear_num_key_heads": 1}, {**DELTA, **BIASED},
        {**DELTA, **rope("yarn", factor=4.0, original_max_position_embeddings=128, partial_rotary_factor=0.25)},
    ],
    "qwen3_5_moe_text": [EXPERT_DELTA, {**EXPERT_DELTA, **TIED}, {**EXPERT_DELTA, "num_experts_per_tok": 3}],
    "lfm2": [
        CONV, UNTIED | CONV, {**CONV, "conv_bias": True}, {**CONV, "conv_L_cache": 5}, {**CONV, **rope(theta=1e4)},
        {**CONV, "block_auto_adjust_ff_dim": False}, {**CONV, "block_ffn_dim_multiplier": 1.7},
        {**CONV, "layer_types": None, "full_attn_idxs": [0, 2], "num_hidden_layers": 4},
    ],
    "lfm2_moe": [
        CONV_EXPERTS, {**CONV_EXPERTS, "norm_topk_prob": False},
        {**CONV_EXPERTS, "use_expert_bias": False, "num_experts_per_tok": 3},
        {**CONV_EXPERTS, "routed_scaling_factor": 2.0}, {**CONV_EXPERTS, "num_dense_layers": 0, "conv_bias": True},
    ],
    "starcoder2": [PLAIN, {"use_bias": False}, {"sliding_window": 40}, UNTIED, {"hidden_act": "gelu"}],
}  # fmt: skip
