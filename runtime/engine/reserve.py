"""What of a GPU's memory is left free beside weights and KV: what the back end reckons for the engine's largest step.

free when the weights lie there   |------------------------ memory_share ------------------------|-- others --|
                                  |---------------- KV ----------------|--- reserve of a step ---|
"""

from __future__ import annotations

from stemma.kernels.limits import StepLimits, Widths
from stemma.kernels.ops import Ops
from stemma.runtime.core.config import SettledConfig
from stemma.runtime.model import ModelConfig


def limits_of(config: SettledConfig, context_length: int) -> StepLimits:
    """Of the engine's steps."""
    return StepLimits(config.max_running, config.max_batch_tokens, context_length)


def widths_of(model: ModelConfig) -> Widths:
    """Of the widest layer: with experts, of all that compute a token."""
    inner, top_k, experts = model.intermediate, 0, model.experts
    if experts is not None:
        top_k = experts.spec.top_k
        chosen = top_k * experts.intermediate + experts.shared_intermediate
        inner = chosen + model.intermediate if experts.beside else max(inner, chosen)
    of_states = [each.spec.width for each in (model.delta, model.mamba) if each is not None]
    return Widths(model.hidden, max([inner, *of_states]), model.vocab_size, top_k)


def reserve_of(config: SettledConfig, model: ModelConfig, ops: Ops) -> int:
    """Bytes of the largest step, and of what is recorded of steps."""
    context = min(config.context_length or model.context_length, model.context_length)
    shape = model.memory_shape(1, config.block_size, num_window_blocks=1, num_slots=1)
    return ops.reserve(shape, model.num_heads, limits_of(config, context), widths_of(model))
