"""What of a GPU's memory is left free beside weights and KV, reckoned from sizes before any step has run.

free when the weights lie there   |------------------------ memory_share ------------------------|-- others --|
                                  |---------------- KV ----------------|--- reserve of a step ---|
"""

from __future__ import annotations

from stemma.runtime.core.config import SettledConfig
from stemma.runtime.model import ModelConfig

WORKSPACES = 256 << 20
"""Bytes, of cuBLAS and cuBLASLt on the streams of steps and of recording, and what their drivers take besides."""

SCORED_ROWS = 512
"""Of prompts whose log-probabilities are asked for, in one step: a step of more is computed in parts if need be."""

ACTIVATION = 2
"""Bytes of a number of a row: bfloat16 or float16."""

LOGIT = ACTIVATION + 4 + 4
"""Bytes: as the product makes it, in float32, and as a log-probability."""


def reserve_of(config: SettledConfig, model: ModelConfig) -> int:
    """Bytes of the largest step: its activations, its logits, and workspaces of products."""
    rows = min(config.max_batch_tokens, config.max_running + SCORED_ROWS)
    heads = model.num_heads + 2 * model.num_kv_heads
    of_token = 6 * model.hidden + 3 * model.intermediate + 2 * heads * model.head_dim
    activations = config.max_batch_tokens * of_token * ACTIVATION
    return WORKSPACES + activations + rows * model.vocab_size * LOGIT
