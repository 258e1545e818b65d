"""A deployment's options: read from plain values and written as such, wrong ones refused by name."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from stemma.runtime.core.config import EngineConfig
from stemma.runtime.errors import InvalidRequest
from stemma.scale.spec import ScaleConfig, Spec, spec_of
from stemma.server import ApiKey, ServerConfig, SharedPrompt


def test_what_is_written_is_read_again():
    spec = Spec(
        "model.gguf", ("adapter",), {"sql": "adapters/sql"},
        engine=EngineConfig(kv_tokens=1000, drafts_from=("tree",)),
        server=ServerConfig(
            api_keys=(ApiKey("a", "b", is_admin=True),), shared_prompts=(SharedPrompt("rules", system="Be brief."),)
        ),
        scale=ScaleConfig(replicas=3, max_replicas=5, replica_cpus=2.0),
    )  # fmt: skip
    assert spec_of(spec.as_values()) == spec
    assert spec_of({}) == Spec()


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"modle": "x"}, "modle"),
        ({"scale": {"replica": 2}}, "replica"),
        ({"scale": {"replicas": 0}}, "replicas"),
        ({"scale": {"replicas": 3, "max_replicas": 2}}, "max_replicas"),
        ({"scale": {"wait_seconds": 0}}, "wait_seconds"),
        ({"scale": {"handover_bytes": -1}}, "handover_bytes"),
        ({"scale": {"events_host": "10.0.0.1"}}, "events_host"),
        ({"scale": {"prefill_replicas": 1}}, "decode_replicas"),
        ({"scale": {"decode_replicas": 2}}, "prefill_replicas"),
        ({"scale": {"prefill_replicas": -1, "decode_replicas": 1}}, "prefill_replicas"),
        ({"scale": {"prefill_replicas": 1, "decode_replicas": 1, "replicas": 3}}, "replicas"),
        ({"scale": {"prefill_replicas": 1, "decode_replicas": 1, "max_replicas": 4}}, "replicas"),
        ({"scale": {"prefill_replicas": 1, "decode_replicas": 1, "handover_by": "tier"}}, "kv_shared"),
        ({"scale": {"handover_by": "tier"}}, "handover_by"),
        ({"scale": {"max_prefill_replicas": 2}}, "max_prefill_replicas"),
        ({"scale": {"max_decode_replicas": 2, "replicas": 1}}, "max_decode_replicas"),
        ({"scale": {"prefill_replicas": 2, "decode_replicas": 1, "max_prefill_replicas": 1}}, "max_prefill_replicas"),
        ({"scale": {"prefill_replicas": 1, "decode_replicas": 3, "max_decode_replicas": 2}}, "max_decode_replicas"),
        ({"scale": {"target_prompts": 0}}, "target_prompts"),
        ({"scale": {"handover_by": "pigeon"}}, "handover_by"),
        ({"scale": 3}, "scale"),
        ({"engine": {"kv_token": 3}}, "kv_token"),
        ({"engine": {"prefix_cache": False}}, "engine"),
        ({"server": {"prot": 3}}, "prot"),
        ({"server": {"role": "prefill", "handover": "/tmp/x"}}, "role"),
    ],
)
def test_what_is_wrong_is_refused_by_name(values, param):
    with pytest.raises(InvalidRequest) as refused:
        spec_of(values)
    assert refused.value.param == param


def test_replicas_on_one_host_share_what_one_engine_would_take():
    one, four = (Spec(scale=ScaleConfig(replicas=number)).engine_options()["memory"] for number in (1, 4))
    assert four == pytest.approx(one / 4, rel=1e-6)
    assert Spec(engine=EngineConfig(kv_tokens=1000)).engine_options()["memory"] is None


def test_a_process_is_told_the_same_however_many_there_are_where_its_memory_is_said():
    said, unsaid = Spec(engine=EngineConfig(kv_tokens=1000)), Spec()
    more = ScaleConfig(replicas=5)
    assert replace(said, scale=more).of_one() == said.of_one()
    assert replace(unsaid, scale=more).of_one() != unsaid.of_one()
    roles = [replace(said, scale=ScaleConfig(prefill_replicas=number, decode_replicas=2)) for number in (1, 3)]
    assert roles[0].of_one() == roles[1].of_one()
    assert [each.scale.count for each in roles] == [3, 5]
    scaling = replace(said, scale=ScaleConfig(prefill_replicas=1, decode_replicas=2, max_decode_replicas=6))
    assert scaling.of_one() == roles[0].of_one()
    assert (scaling.scale.count, scaling.scale.most) == (3, 7)


def test_no_field_of_one_table_has_the_name_of_one_of_another():
    """They are options of one command."""
    names = [field.name for kind in (ScaleConfig, ServerConfig, EngineConfig) for field in fields(kind)]
    assert [name for name in set(names) if names.count(name) > 1] == []
