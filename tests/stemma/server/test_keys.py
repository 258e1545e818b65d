"""API keys, and the namespaces that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stemma.runtime.errors import InvalidRequest
from stemma.server import ApiKey, ServerConfig, parse_api_keys
from stemma.server.http.errors import ApiError
from stemma.server.http.keys import KeyRing, Tenant

KEYS = (ApiKey("alice", "key-a"), ApiKey("root", "key-r", is_admin=True))


async def test_without_the_key_nobody_comes_in(engine: Any, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(api_keys=KEYS)) as client:
        for path in ("/v1/models", "/model_info", "/server_info"):
            for key in (None, "", "key", "key-aa", "alice"):
                error = (await client.get(path, status=401, key=key))["error"]
                assert error["type"] == "authentication_error"
            await client.get(path, key="key-a")
        for path in ("/v1/chat/completions", "/v1/completions", "/tokenize"):
            await client.post(path, status=401, prompt="x")
        await client.get("/health")
        await client.get("/version")


def test_the_key_makes_the_tenant() -> None:
    ring = KeyRing(KEYS)
    assert ring.tenant("Bearer key-a") == Tenant("alice", is_admin=False)
    assert ring.tenant("bearer  key-r") == Tenant("root", is_admin=True)
    assert ring.tenant(None, "key-a").name == "alice"
    with pytest.raises(ApiError):
        ring.tenant("Basic key-a", None)
    with pytest.raises(ApiError):
        ring.tenant("Bearer key-a\ud800")


def test_no_salt_reaches_another_tenant() -> None:
    names = ["", "a", "a.b", "b"]
    salts = [None, "", "a", "b", "a/b", "/", "//a", "../b"]
    spaces = [Tenant(name, is_admin=False).namespace(salt) for name in names for salt in salts if salt != ""]
    assert len(set(spaces)) == len(spaces)
    assert not Tenant("a", is_admin=False).owns("a.b/x")
    assert Tenant("a", is_admin=False).owns("a/x")
    assert Tenant("r", is_admin=True).owns("a/x")


@pytest.mark.parametrize(("name", "key"), [("a/b", "k"), ("", "k"), ("a", ""), ("a b", "k"), ("a", "é"), ("a", " k")])
def test_a_key_needs_a_plain_name(name: str, key: str) -> None:
    with pytest.raises(InvalidRequest):
        ApiKey(name, key)


def test_keys_are_read_from_options_and_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# comment\n\nbob key-b\nroot key-r admin\n")
    assert parse_api_keys(["alice:a:b"], path) == (
        ApiKey("alice", "a:b"),
        ApiKey("bob", "key-b"),
        ApiKey("root", "key-r", is_admin=True),
    )
    with pytest.raises(InvalidRequest):
        parse_api_keys(["alice"])
    path.write_text("bob key-b superuser\n")
    with pytest.raises(InvalidRequest):
        parse_api_keys([], path)
    with pytest.raises(InvalidRequest):
        ServerConfig(api_keys=(ApiKey("a", "x"), ApiKey("a", "y")))
