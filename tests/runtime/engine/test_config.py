"""Options of an engine: both spellings agree, what cannot be is refused, the pool is as large as it should be."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from stemma.runtime.engine import EngineConfig, EngineOptions
from stemma.runtime.errors import InvalidRequest


def test_the_keyword_arguments_are_the_dataclass():
    assert get_type_hints(EngineOptions) == get_type_hints(EngineConfig)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"block_size": 0}, "block_size"),
        ({"max_running": 0}, "max_running"),
        ({"max_chunk": -1}, "max_chunk"),
        ({"max_batch_tokens": 8, "max_running": 9}, "max_batch_tokens"),
    ],
)
def test_impossible_options_are_refused(options, param):
    with pytest.raises(InvalidRequest) as refused:
        EngineConfig(**options)
    assert refused.value.param == param


def test_a_context_beyond_the_models_is_refused(tiny_loaded):
    with pytest.raises(InvalidRequest, match="2048"):
        EngineConfig(context_length=4096).context(tiny_loaded.config)


def test_a_pool_without_a_block_is_refused(tiny_loaded):
    with pytest.raises(InvalidRequest) as refused:
        EngineConfig(kv_tokens=15).kv_shape(tiny_loaded.config, tiny_loaded.model.ops)
    assert refused.value.param == "kv_tokens"


def test_the_pool_holds_the_running_sequences_and_no_more(tiny_loaded):
    shape = EngineConfig(max_running=2).kv_shape(tiny_loaded.config, tiny_loaded.model.ops)
    assert shape.num_blocks * shape.block_size == 2 * 2048
