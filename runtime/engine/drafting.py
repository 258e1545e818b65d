"""A smaller model that guesses for another: whether it can, and its memory."""

from __future__ import annotations

import time

from stemma.kernels.ops import Ops
from stemma.radix import PrefixCache
from stemma.runtime.core.config import SettledConfig
from stemma.runtime.core.drafts.draft_model import DraftModel
from stemma.runtime.core.runner import Runner
from stemma.runtime.core.sampler import Sampler
from stemma.runtime.engine.reserve import limits_of
from stemma.runtime.engine.resources import MOST_OF_DRAFTS, Room, make_memory, memory_for_kv
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import LoadedModel, ModelConfig, Tokenizer
from stemma.runtime.model.load import ModelText


def make_draft(
    model: LoadedModel, draft: LoadedModel | None, num_blocks: int, config: SettledConfig
) -> DraftModel | None:  # fmt: skip
    """A model that guesses for another, if there is one, whose pool has so many blocks. Its steps are yet to be
    prepared: behind the model's own, which must not lack what these take. Raises InvalidRequest where it cannot."""
    if draft is None:
        return None
    check_draft(model, draft)
    ops, own, block_size = draft.model.ops, draft.config, config.block_size
    with ops.on_device():
        one = make_memory(ops, Room(own.memory_shape(1, block_size), None))
        most = most_for_draft(config, model.config, own, ops)
        num_blocks = max(1, min(num_blocks, most // one.full.num_bytes))
        memory = make_memory(ops, Room(own.memory_shape(num_blocks, block_size), None))
        context = min(config.context_length or own.context_length, own.context_length)
        cache, limits = PrefixCache(num_blocks, block_size), limits_of(config, context)
        runner = Runner(draft.model, memory, limits=limits)
    num_tokens = min(model.tokenizer.vocab_size, draft.tokenizer.vocab_size)
    return DraftModel(runner, Sampler(ops), cache, num_tokens, limits.max_batch_tokens, time.perf_counter)


def most_for_draft(
    config: SettledConfig, model: ModelConfig, draft: ModelConfig, ops: Ops, pool: int = 0, machine: int | None = None
) -> int:
    """Bytes for its pool: a part of a host's; of a GPU's what the model's own pool has left, which knew of it. pool:
    bytes of that where it is not there yet. machine: bytes of another host than this one."""
    if ops.free_memory() is None:
        return int(MOST_OF_DRAFTS * memory_for_kv(config, draft, ops, machine=machine))
    return memory_for_kv(config, model, ops, draft) - int(config.memory_share * pool)


def check_draft(model: LoadedModel | ModelText, draft: LoadedModel | ModelText) -> None:
    """Raises InvalidRequest, by the first difference, unless the tokens of both are the same and the draft model keeps
    all of a text in full layers."""
    if draft.config.marks is not None:
        raise InvalidRequest(
            f"the draft model {draft.name} has layers with windows or states, whose guesses cannot be taken back: give "
            "one whose layers are all full, or leave draft out", "draft",
        )  # fmt: skip
    difference = _difference(model.tokenizer, draft.tokenizer)
    if difference is not None:
        raise InvalidRequest(
            f"the draft model {draft.name} has another vocabulary than {model.name}: {difference}; give a smaller "
            "model of the same family, or leave draft out", "draft",
        )  # fmt: skip


def _difference(one: Tokenizer, other: Tokenizer) -> str | None:
    """The first token that is not the same; ids that have no token do not count."""
    for token in range(max(one.vocab_size, other.vocab_size)):
        ours, its = _spelled(one, token), _spelled(other, token)
        if ours != its:
            return f"token {token} is {its} there and {ours} here"
    return None


def _spelled(tokenizer: Tokenizer, token: int) -> str:
    if token in tokenizer.special_names:
        return f"the special {tokenizer.special_names[token]!r}"
    spelled = tokenizer.token_bytes(token) if token < tokenizer.vocab_size else None
    return "none" if spelled is None else repr(spelled)
