"""Sizes under which tokens must be the same, for property tests with small texts."""

from __future__ import annotations

from hypothesis import strategies as st

TEXTS = st.text("ab", min_size=1, max_size=40)
SIZES = st.fixed_dictionaries(
    {
        "block_size": st.sampled_from([1, 4, 16]),
        "kv_tokens": st.integers(64, 200),
        "max_chunk": st.sampled_from([1, 7, 64]),
        "max_running": st.integers(1, 4),
    }
)
