"""The tiny models that other tests stand on: they load, they depend on their seed, and they remember."""

from __future__ import annotations

import pytest
import torch

from stemma.runtime.model.families.register import FAMILIES
from stemma.runtime.model.tiny import tiny
from tests.runtime.model.running import all_logits, reference_ops

IDS = list(b"the same prefix, then")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_one(family: str) -> None:
    loaded = tiny(reference_ops(), family)
    assert all_logits(loaded.model, IDS).shape == (len(IDS), 260)


def test_a_seed_is_a_model() -> None:
    first, same, other = (all_logits(tiny(reference_ops(), seed=seed).model, IDS) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_next_token_depends_on_the_first() -> None:
    """Else a wrong cache would go unseen in the tests that use these models."""
    model = tiny(reference_ops()).model
    following = {int(all_logits(model, [first, *IDS])[-1].argmax()) for first in range(40)}
    assert len(following) > 3


def test_ids_without_a_token() -> None:
    loaded = tiny(reference_ops(), vocab_size=300)
    assert loaded.tokenizer.vocab_size == loaded.config.vocab_size == 300
    assert loaded.tokenizer.vocabulary()[260:] == (None,) * 40
