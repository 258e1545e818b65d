"""Options of an engine: every spelling agrees, what can never be is refused by its name."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import get_args, get_type_hints

import pytest

from stemma.radix import PrefixCache
from stemma.runtime.core.config import MAX_COUNT, POLICIES, EngineConfig, EngineOptions, PolicyName, engine_config
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


@pytest.mark.parametrize("name", sorted(each.name for each in fields(EngineConfig) if "int" in str(each.type)))
@pytest.mark.parametrize("value", [10**5000, -(10**5000), 0, 2**63], ids=["huge", "-huge", "0", "2**63"])
def test_counts_that_nothing_can_have_are_refused_by_name(name, value):
    with pytest.raises(InvalidRequest) as refused:
        EngineConfig(**{name: value})
    assert refused.value.param == name


@pytest.mark.parametrize("name", sorted(each.name for each in fields(EngineConfig) if "int" in str(each.type)))
def test_counts_are_taken_up_to_the_greatest(name):
    whole = {"max_batch_tokens": MAX_COUNT} if name == "max_running" else {}
    assert getattr(EngineConfig(**{name: MAX_COUNT, **whole}), name) == MAX_COUNT


def test_an_unknown_option_is_refused_with_those_that_there_are():
    with pytest.raises(InvalidRequest, match=r"'blok_size'.*'block_size'") as refused:
        engine_config({"policy": "lru", "blok_size": 16})
    assert refused.value.param == "blok_size"
    assert engine_config({"policy": "lru", "block_size": 32}) == EngineConfig(policy="lru", block_size=32)


def test_every_option_says_what_it_does():
    assert EngineConfig.__doc__ is not None
    assert [each.name for each in fields(EngineConfig) if f"    {each.name}: " not in EngineConfig.__doc__] == []


def test_every_policy_that_can_be_named_is_there_and_orders_a_cache():
    assert set(POLICIES) == set(get_args(PolicyName))
    for policy in POLICIES.values():
        cache = PrefixCache(4, 1, policy)
        for number in range(9):
            with cache.acquire([number]) as lease:
                lease.reserve(1)
                lease.extend([number])
                lease.commit()
        assert cache.stats().evicted_blocks >= 5
        cache.check()


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        EngineConfig().block_size = 3
