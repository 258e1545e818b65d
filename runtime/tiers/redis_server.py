"""Records in Redis or Valkey, a string each. The server bounds its memory itself: `maxmemory`, and
`maxmemory-policy allkeys-lru`, so that what is used longest ago goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tiers.tier import Record, TierError

PREFIX = b"stemma:kv:"
CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0


class RedisTier:
    """See `Tier`. url: redis://, rediss:// (TLS), valkey:// or valkeys://, with user, password, port and database."""

    is_near = False
    held_bytes = None

    def __init__(self, url: str) -> None:
        """Asks nobody yet. Raises InvalidRequest for a URL that is none, or where the package is not installed."""
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise InvalidRequest("Redis needs a package more: pip install 'stemma-llm[scale]'", "kv_shared") from error
        self._errors = (redis.RedisError, OSError)
        try:
            self._client: Any = redis.Redis.from_url(
                url.replace("valkey", "redis", 1), socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=CONNECT_SECONDS, retry=Retry(NoBackoff(), 0),
            )  # fmt: skip
            where = self._client.connection_pool.connection_kwargs
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"kv_shared is no URL of a Redis server: {error}", "kv_shared") from error
        place = where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
        self.name = f"Redis at {place}"

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        return [found == 1 for found in self._ask([("EXISTS", key) for key in keys])]

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._ask([("GET", key) for key in keys])

    def put(self, records: Sequence[Record]) -> None:
        self._ask([("SET", key, record) for key, record in records])

    def drop(self, key: bytes) -> None:
        self._ask([("DEL", key)])

    def close(self) -> None:
        self._client.close()

    def _ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for name, key, *rest in commands:
                    pipe.execute_command(name, PREFIX + key, *rest)
                answers: list[Any] = pipe.execute()
                return answers
        except self._errors as error:
            why = str(error).rpartition(" caused error: ")[2]  # before it, the command with all its bytes
            raise TierError(
                f"it does not do what is asked ({why}): see that it runs, that the URL of kv_shared is right, and "
                "that it may forget (maxmemory-policy allkeys-lru)"
            ) from error
