"""Object stores: obstore's own in memory, and a server that speaks S3, moto's."""

from __future__ import annotations

import logging
import os

import pytest

from stemma.runtime.errors import InvalidRequest
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


def test_it_speaks_s3(monkeypatch):
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    try:
        host, port = running.get_host_and_port()
        for name, value in (("ENDPOINT_URL", f"http://{host}:{port}"), ("ACCESS_KEY_ID", "a"),
                            ("SECRET_ACCESS_KEY", "b"), ("REGION", "us-east-1")):  # fmt: skip
            monkeypatch.setenv(f"AWS_{name}", value)
        boto3 = pytest.importorskip("boto3")
        client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
        client.create_bucket(Bucket="kv-of-tests")
        tier = open_store("s3://kv-of-tests/some/prefix")
        assert_keeps_records(tier)
        tier.close()
    finally:
        running.stop()
