"""Sequences, leases and rows by hand, for tests of one module of the core at a time."""

from __future__ import annotations

import numpy as np

from stemma.radix import PrefixCache
from stemma.runtime.core.batch import Row
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.core.sequence import Request, Sequence


def sequence(prompt, max_tokens=8, sampling=None, seed=0, matcher=None, stop_checker=None, **options) -> Sequence:
    """A sequence that greedily continues a prompt; options: other fields of its request."""
    asked = Request(np.array(prompt, dtype=np.int32), max_tokens, sampling or Sampling(), seed, **options)
    return Sequence(asked, matcher, stop_checker)


def running(cache: PrefixCache, item: Sequence, num_tokens: int) -> Sequence:
    """Gives a sequence a lease on its first tokens, as though these had been computed: found, or written."""
    tokens = np.array(item.tokens, dtype=np.int32)
    item.lease = cache.acquire(tokens, item.request.namespace, max_hit=num_tokens)
    rest = item.tokens[item.lease.num_tokens : num_tokens]
    item.lease.reserve(len(rest))
    item.lease.extend(rest)
    return item


def row(item: Sequence, start: int, tokens: list[int], num_drafts=0, num_samples=None) -> Row:
    """A step's row; sampled behind its last token and each of its drafts, if nothing else is said."""
    return Row(item, start, tokens, num_drafts, 1 + num_drafts if num_samples is None else num_samples)
