"""Records in an object store that speaks S3 (or Google's, or Azure's), an object each, by the library `obstore`.

Keys, region and endpoint come from where such programs find them (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
AWS_ENDPOINT_URL; an instance's role). How much is kept, and for how long, is the bucket's to say: a lifecycle rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tiers.tier import Record, TierError

T = TypeVar("T")
NUM_AT_ONCE = 16
"""Requests under way: each waits for the store most of its time."""
CONNECT = timedelta(seconds=2)
ANSWER = timedelta(seconds=10)


class ObjectStoreTier:
    """See `Tier`. store: one of obstore's."""

    is_near = False
    held_bytes = None

    def __init__(self, store: Any, name: str) -> None:
        import obstore
        from obstore.exceptions import BaseError

        self._store, self.name = store, name
        self._library: Any = obstore
        self._error: type[Exception] = BaseError
        self._pool = ThreadPoolExecutor(NUM_AT_ONCE, "stemma-tiers-object")

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        return self._each(self._has, keys)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._each(self._read, keys)

    def put(self, records: Sequence[Record]) -> None:
        self._each(lambda record: self._library.put(self._store, _path(record[0]), record[1]), records)

    def drop(self, key: bytes) -> None:
        self._each(lambda gone: self._library.delete(self._store, _path(gone)), (key,))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _has(self, key: bytes) -> bool:
        try:
            self._library.head(self._store, _path(key))
        except FileNotFoundError:
            return False
        return True

    def _read(self, key: bytes) -> bytes | None:
        try:
            return bytes(self._library.get(self._store, _path(key)).bytes())
        except FileNotFoundError:
            return None

    def _each(self, function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        try:
            return list(self._pool.map(function, items))
        except (self._error, OSError) as error:
            raise TierError(
                f"it does not do what is asked ({str(error).splitlines()[0]}): see that bucket, region, endpoint and "
                "credentials are right"
            ) from error


def open_store(url: str) -> ObjectStoreTier:
    """s3://bucket/prefix, gs:// or az://. Asks nobody yet. Raises InvalidRequest for a URL that is none, or where the
    package is not installed."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise InvalidRequest(
            "object stores need a package more: pip install 'stemma-llm[scale]'", "kv_shared"
        ) from error
    try:
        store = from_url(
            url,
            client_options={"timeout": ANSWER, "connect_timeout": CONNECT, "allow_http": True},
            retry_config={"max_retries": 1, "retry_timeout": ANSWER},
        )
    except (BaseError, ValueError) as error:
        raise InvalidRequest(
            f"kv_shared is no URL of an object store: {str(error).splitlines()[0]}", "kv_shared"
        ) from error
    return ObjectStoreTier(store, f"object store {url}")


def _path(key: bytes) -> str:
    """The folder of its last byte comes first: stores divide their work by how names begin."""
    name = key.hex()
    return f"{name[-2:]}/{name}.kv"
