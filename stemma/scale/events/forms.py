"""What the cache tells, as messages that readers of vLLM's KV events understand, and back.

A message is three ZeroMQ frames: topic, sequence number (8 bytes, big-endian), and a batch in MessagePack:

    [time, [event, ...], rank]

    maps     {"type": "BlockStored", "block_hashes": [...], "parent_block_hash": ..., "token_ids": [...], ...}
    arrays   ["BlockStored", block_hashes, parent_block_hash, token_ids, block_size, lora_id, medium, lora_name, ...]

Maps are what vLLM sends since its pull request 42892 (2026), arrays what it sent before. A hash is an integer of 64
bits (the last 8 bytes of ours, as vLLM's default is), or all its bytes. `extra_keys` has the scope, which went into
each hash, with the first block of each event.

Marks are ours alone. By option they travel in a `BlockRemoved` of no blocks, under names that no other reader looks at:
all skip them, and they keep their place between the blocks. Arrays have no room for them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from stemma.radix.events import AllCleared, BlocksRemoved, BlocksStored, Event, MarksRemoved, MarksStored
from stemma.radix.node import PRIVATE_SCOPE

Form: TypeAlias = Literal["maps", "arrays"]
Hashes: TypeAlias = Literal["int", "bytes"]
Locality: TypeAlias = Literal["LOCAL", "REMOTE"]

FIRST: Final = "GPU"
"""The medium of blocks that the model can use as they are, on a machine without a GPU too: vLLM's word for it."""
HOST: Final = "CPU"
STORAGE: Final = "STORAGE"

WORD_BYTES: Final = 8
ADAPTER: Final = "//lora:"
"""What stands in a scope before the name of its adapter (runtime/engine/namespaces.py)."""
MARKS_STORED, MARKS_REMOVED = "stemma_marks_stored", "stemma_marks_removed"


class Told(NamedTuple):
    """An event, and of which tier. medium: GPU, CPU or STORAGE. locality: of a storage, whether others reach it."""

    event: Event
    medium: str = FIRST
    locality: str | None = None


class Batch(NamedTuple):
    """One message. time: seconds since 1970."""

    time: float
    told: list[Told]
    rank: int | None


class WireError(ValueError):
    """A message that is none of vLLM's form."""


class Writer:
    """Makes messages in one form."""

    def __init__(self, form: Form = "maps", hashes: Hashes = "int", *, marks: bool = False, rank: int = 0) -> None:
        self._as_maps = form == "maps"
        self._as_int = hashes == "int"
        self._marks = marks and self._as_maps
        self._rank = rank
        self._encoder = msgspec.msgpack.Encoder()

    def batch(self, time: float, told: Iterable[Told]) -> bytes:
        """A batch in MessagePack."""
        events = [event for each in told if (event := self._event(each)) is not None]
        return self._encoder.encode([time, events, self._rank])

    def _event(self, told: Told) -> Any:
        event = told.event
        match event:
            case BlocksStored():
                return self._stored(event, told)
            case BlocksRemoved():
                return self._removed(event.hashes, told)
            case AllCleared():
                return {"type": "AllBlocksCleared"} if self._as_maps else ["AllBlocksCleared"]
        if not self._marks:
            return None
        marks, positions, scope = self._hashes(event.hashes), event.positions, _text(event.scope)
        if isinstance(event, MarksRemoved):
            return self._removed([], told) | {MARKS_REMOVED: [marks, positions, scope]}
        parent = self._hashes([event.parent])[0] if event.parent else None
        return self._removed([], told) | {MARKS_STORED: [parent, marks, positions, scope]}

    def _stored(self, event: BlocksStored, told: Told) -> Any:
        hashes, parent = self._hashes(event.hashes), self._hashes([event.parent])[0] if event.parent else None
        scope = _text(event.scope)
        salt, adapter = reader_names(scope)
        keys = [[scope], *[None] * (len(hashes) - 1)] if scope else None
        if not self._as_maps:
            made = ["BlockStored", hashes, parent, event.tokens, event.block_size, None, told.medium, adapter]
            return made if keys is None else [*made, keys]
        optional = {"extra_keys": keys, "cache_salt": salt or None, "locality": told.locality}
        return {
            "type": "BlockStored",
            "block_hashes": hashes,
            "parent_block_hash": parent,
            "token_ids": event.tokens,
            "block_size": event.block_size,
            "lora_id": None,
            "medium": told.medium,
            "lora_name": adapter,
        } | {name: value for name, value in optional.items() if value is not None}

    def _removed(self, hashes: Sequence[bytes], told: Told) -> Any:
        if not self._as_maps:
            return ["BlockRemoved", self._hashes(hashes), told.medium]
        made = {"type": "BlockRemoved", "block_hashes": self._hashes(hashes), "medium": told.medium}
        return made if told.locality is None else made | {"locality": told.locality}

    def _hashes(self, hashes: Sequence[bytes]) -> list[Any]:
        return [int.from_bytes(each[-WORD_BYTES:]) for each in hashes] if self._as_int else list(hashes)


def _text(scope: str) -> str:
    """A scope as text that UTF-8 can hold, whatever a caller named it."""
    return scope.encode("utf-8", "backslashreplace").decode()


def reader_names(scope: str) -> tuple[str, str | None]:
    """What other readers call a scope: the salt of a request, and the name of its adapter."""
    found = PRIVATE_SCOPE.fullmatch(scope)
    owner = scope if found is None else found[3]
    salt, _, adapter = owner.partition(ADAPTER)
    return salt, adapter.rpartition("@")[0] or None


def word(digest: bytes) -> bytes:
    """What of an event's hash others see where hashes are integers."""
    return digest[-WORD_BYTES:]


# Reading ----------------------------------------------------------------


def read_batch(data: bytes) -> Batch:
    """A batch of either form, of any version of vLLM's that has the fields used here. What is unknown is left out.

    A hash that is an integer becomes its 8 bytes. Raises WireError.
    """
    try:
        found = msgspec.msgpack.decode(data)
        if isinstance(found, dict):
            found = [found["ts"], found["events"], found.get("data_parallel_rank")]
        rank = found[2] if len(found) > 2 else None
        told = [each for event in found[1] for each in _read(event if isinstance(event, dict) else _named(event))]
        return Batch(float(found[0]), told, rank)
    except (msgspec.DecodeError, TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError) as error:
        raise WireError(f"a message is no batch of KV events: {error}") from error


_STORED = (
    "type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name",
    "extra_keys",
)  # fmt: skip
_REMOVED = ("type", "block_hashes", "medium")


def _named(event: list[Any]) -> dict[str, Any]:
    """The fields of an array by their names; what stands behind those is another version's."""
    return dict(zip(_STORED if event[0] == "BlockStored" else _REMOVED, event, strict=False))


def _read(event: dict[str, Any]) -> list[Told]:
    medium, locality = event.get("medium") or FIRST, event.get("locality")
    match event["type"]:
        case "BlockStored":
            return [Told(_read_stored(event), medium, locality)]
        case "BlockRemoved":
            hashes = [_hash(each) for each in event["block_hashes"]]
            made = [Told(BlocksRemoved(hashes), medium, locality)] if hashes else []
            return made + [Told(mark, medium, locality) for mark in _read_marks(event)]
        case "AllBlocksCleared":
            return [Told(AllCleared())]
    return []


def _read_stored(event: dict[str, Any]) -> BlocksStored:
    parent, keys = event["parent_block_hash"], event.get("extra_keys")
    first = keys[0] if keys else None
    scope = first[0] if first and isinstance(first[0], str) else ""
    hashes, tokens, size = [_hash(each) for each in event["block_hashes"]], event["token_ids"], event["block_size"]
    if len(tokens) not in (0, len(hashes) * size):
        raise ValueError(f"{len(tokens)} tokens in {len(hashes)} blocks of {size}")
    array("i", tokens)  # raises for what is no token
    return BlocksStored(b"" if parent is None else _hash(parent), hashes, tokens, size, scope)


def _read_marks(event: dict[str, Any]) -> Iterable[MarksStored | MarksRemoved]:
    if (stored := event.get(MARKS_STORED)) is not None:
        parent, marks, positions, scope = stored
        yield MarksStored(b"" if parent is None else _hash(parent), [_hash(each) for each in marks], positions, scope)
    if (removed := event.get(MARKS_REMOVED)) is not None:
        marks, positions, scope = removed
        yield MarksRemoved([_hash(each) for each in marks], positions, scope)


def _hash(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value & (1 << 8 * WORD_BYTES) - 1).to_bytes(WORD_BYTES)
