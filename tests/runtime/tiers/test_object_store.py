"""Object stores: obstore's own in memory, and a server that speaks S3, moto's."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from local_s3 import local_s3

from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.tiny import tiny
from stemma.runtime.tiers.object_store import ObjectStoreTier, open_store
from stemma.runtime.tiers.tier import TierError
from tests.runtime.tiers.blocks import key
from tests.runtime.tiers.contract import assert_keeps_records

obstore = pytest.importorskip("obstore", reason="obstore is not installed: pip install 'stemma-llm[scale]'")


def test_it_keeps_records():
    from obstore.store import MemoryStore

    tier = ObjectStoreTier(MemoryStore(), "memory")
    assert_keeps_records(tier)
    tier.close()


def test_a_url_that_is_none_is_refused():
    with pytest.raises(InvalidRequest) as caught:
        open_store("nothing://there")
    assert caught.value.param == "kv_shared"


def test_a_store_that_is_not_there_says_what_to_do(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    tier = open_store("s3://bucket/kv")
    with pytest.raises(TierError, match="endpoint"):
        tier.contains([key(1)])
    tier.close()


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    """The URL of one on this machine, for one test: moto keeps objects for all servers of a process."""
    pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3]' flask flask-cors")
    name = f"kv-{uuid4().hex}"
    with local_s3(name) as variables:
        for each, value in variables.items():
            monkeypatch.setenv(each, value)
        yield f"s3://{name}/some/prefix"


def test_it_speaks_s3(bucket):
    tier = open_store(bucket)
    assert_keeps_records(tier)
    tier.close()


def test_objects_that_are_cut_changed_or_anothers_are_misses_and_computed(bucket, caplog):
    """Two engines on one bucket; what the first wrote is spoiled, each object in another way."""
    from obstore.store import from_url

    loaded = tiny(select_ops("cpu", "cpu"))
    ids = [number % 250 for number in range(0, 900, 3)]
    options = {"kv_tokens": 2048, "kv_shared": bucket}
    with Engine.of(loaded, **options) as first:
        expected = first.generate(ids, max_tokens=8).tokens
        assert first.tiering.writer.drain(60)
    store = from_url(bucket, client_options={"allow_http": True})
    paths = sorted(each["path"] for each in obstore.list(store).collect())
    assert len(paths) >= 18
    whole = [bytes(obstore.get(store, path).bytes()) for path in paths]
    for number, path in enumerate(paths):
        record = whole[number]
        spoiled = (record[:-100], b"", record[:-1] + bytes([record[-1] ^ 1]), whole[number - 1])[number % 4]
        obstore.put(store, path, spoiled)
    with Engine.of(loaded, **options) as second:
        found = second.generate(ids, max_tokens=8)
        assert (found.tokens, found.usage.cached_tokens) == (expected, 0)
        assert "damaged or another's" in caplog.text
        assert second.tiering.writer.drain(60)
    with Engine.of(loaded, **options) as third:
        assert third.generate(ids, max_tokens=8).usage.cached_tokens > 0


def test_a_bucket_that_goes_away_costs_a_warning(monkeypatch, caplog):
    pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3]' flask flask-cors")
    loaded, ids = tiny(select_ops("cpu", "cpu")), list(range(200))
    with Engine.of(loaded, kv_tokens=2048) as alone:
        expected = [alone.generate(each, max_tokens=8).tokens for each in (ids, ids[::-1])]
    with local_s3("another-bucket") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        engine = Engine.of(loaded, kv_tokens=2048, kv_shared="s3://another-bucket/kv")
        assert engine.generate(ids, max_tokens=8).tokens == expected[0]
        assert engine.tiering.writer.drain(60)
    with engine:
        assert engine.generate(ids[::-1], max_tokens=8).tokens == expected[1]
        assert "endpoint" in caplog.text
