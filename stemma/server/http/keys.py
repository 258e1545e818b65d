"""Who is asking: API keys, and the cache namespace that follows from a key and from nothing in the body."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import NamedTuple

from stemma.server.config import ApiKey
from stemma.server.http.errors import ApiError


class Tenant(NamedTuple):
    """A caller. With keys, `name` is the key's; without, everybody is the tenant "", who may do everything."""

    name: str
    is_admin: bool

    def namespace(self, cache_salt: str | None) -> str:
        """The root of the cache tree for this caller. A salt names a part of the caller's own namespace.

        No two tenants meet: a name has no slash, so what stands before the first one is the tenant.
        """
        return self.name if not cache_salt else f"{self.name}/{cache_salt}"

    def owns(self, namespace: str) -> bool:
        """Whether the namespace is this caller's, or the caller may see all."""
        return self.is_admin or self._is_own(namespace)

    def own_name(self, namespace: str) -> str:
        """What the caller itself calls a namespace: one of its own by its salt, another's by its whole name."""
        return namespace[len(self.name) :].removeprefix("/") if self._is_own(namespace) else namespace

    def _is_own(self, namespace: str) -> bool:
        return namespace.partition("/")[0] == self.name


class KeyRing:
    """Compares keys by their digests, all of them each time, so that the time says nothing about them."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = [(_digest(key.key), Tenant(key.name, key.is_admin)) for key in keys]

    def tenant(self, authorization: str | None, api_key: str | None = None) -> Tenant:
        """Who comes with `Authorization: Bearer KEY` or `x-api-key: KEY`. Raises ApiError (401)."""
        if not self._keys:
            return Tenant("", is_admin=True)
        scheme, _, token = (authorization or "").partition(" ")
        given = _digest(token.strip() if scheme.lower() == "bearer" else api_key or "")
        found = [tenant for digest, tenant in self._keys if hmac.compare_digest(digest, given)]
        if not found:
            raise ApiError(
                401, "no valid API key: send it as `Authorization: Bearer KEY`", "authentication_error",
                code="invalid_api_key", headers={"www-authenticate": "Bearer"},
            )  # fmt: skip
        return found[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
