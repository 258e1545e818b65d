"""Hunyuan, the dense models (Tencent 2025): norms of the heads of Q and K behind the rotation."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.llama import read_llama
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config = read_llama(settings)
    attention = replace(
        config.attention, norms="head", norms_after_rope=True, q_norm="query_layernorm", k_norm="key_layernorm"
    )
    return replace(config, attention=attention)


HUNYUAN = Family(
    read,
    GGUF("hunyuan-dense",
         tensors={"attn_q_norm": "self_attn.query_layernorm", "attn_k_norm": "self_attn.key_layernorm"}),
    defaults={"rms_norm_eps": 1e-5},
    without_effect=frozenset({"eod_token_id", "attention_head_dim", "add_classification_head", "cla_share_factor",
                              "class_num", "dense_list", "enable_lm_head_fp32", "im_end_id", "im_newline_id",
                              "im_start_id", "mask_init_id", "norm_type", "org_vocab_size", "pool_type", "sep_id",
                              "text_end_id", "text_start_id", "use_qk_norm", "qk_norm", "eod_id"}),
)  # fmt: skip
