"""Messages, field by field, and what is no message."""

from __future__ import annotations

import msgspec
import pytest

from stemma.radix.events import AllCleared, BlocksRemoved, BlocksStored, MarksRemoved, MarksStored
from stemma.radix.node import private_scope
from stemma.runtime.engine.namespaces import MARK
from stemma.scale.events import Told, WireError, Writer, read_batch
from stemma.scale.events.forms import ADAPTER, reader_names

FIRST, SECOND, PARENT = bytes(range(16)), bytes(range(16, 32)), b"\xff" * 16
STORED = Told(BlocksStored(PARENT, [FIRST, SECOND], [1, 2, 3, 4], 2, "team//lora:sql@0f3a"))
EVENTS = [
    STORED,
    Told(BlocksStored(b"", [FIRST], [1, 2], 2, "")),
    Told(BlocksRemoved([FIRST]), "CPU"),
    Told(AllCleared()),
]
FIRST_WORD = int.from_bytes(FIRST[8:])


def decoded(writer: Writer, *told: Told) -> list[object]:
    return msgspec.msgpack.decode(writer.batch(1.5, told))  # type: ignore[no-any-return]


def test_a_map_has_vllms_fields() -> None:
    time, events, rank = decoded(Writer(rank=3), *EVENTS)
    assert (time, rank) == (1.5, 3)
    assert events == [
        {
            "type": "BlockStored",
            "block_hashes": [FIRST_WORD, int.from_bytes(SECOND[8:])],
            "parent_block_hash": 2**64 - 1,
            "token_ids": [1, 2, 3, 4],
            "block_size": 2,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": "sql",
            "extra_keys": [["team//lora:sql@0f3a"], None],
            "cache_salt": "team",
        },
        {
            "type": "BlockStored",
            "block_hashes": [FIRST_WORD],
            "parent_block_hash": None,
            "token_ids": [1, 2],
            "block_size": 2,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": None,
        },
        {"type": "BlockRemoved", "block_hashes": [FIRST_WORD], "medium": "CPU"},
        {"type": "AllBlocksCleared"},
    ]


def test_an_array_has_them_in_their_places() -> None:
    _, events, _ = decoded(Writer("arrays", "bytes"), *EVENTS)
    keys = [["team//lora:sql@0f3a"], None]
    assert events == [
        ["BlockStored", [FIRST, SECOND], PARENT, [1, 2, 3, 4], 2, None, "GPU", "sql", keys],
        ["BlockStored", [FIRST], None, [1, 2], 2, None, "GPU", None],
        ["BlockRemoved", [FIRST], "CPU"],
        ["AllBlocksCleared"],
    ]


@pytest.mark.parametrize("form", ["maps", "arrays"])
def test_what_is_written_is_read_again(form: str) -> None:
    told = [*EVENTS, Told(BlocksStored(b"", [FIRST], [], 0, "")), Told(BlocksRemoved([SECOND]), "STORAGE")]
    assert read_batch(Writer(form, "bytes").batch(1.5, told)).told == told  # type: ignore[arg-type]
    with_words = read_batch(Writer(form, "int").batch(1.5, told)).told  # type: ignore[arg-type]
    assert with_words[0].event == BlocksStored(PARENT[8:], [FIRST[8:], SECOND[8:]], *STORED.event[2:])


def test_marks_and_localities_are_read_again() -> None:
    told = [
        Told(MarksStored(FIRST, [SECOND], [7], "team")),
        Told(MarksStored(b"", [SECOND], [1], "")),
        Told(MarksRemoved([SECOND], [7], "team")),
        Told(BlocksStored(b"", [FIRST], [1, 2], 2, ""), "STORAGE", "REMOTE"),
        Told(BlocksRemoved([FIRST]), "STORAGE", "LOCAL"),
    ]
    assert read_batch(Writer("maps", "bytes", marks=True).batch(1.5, told)).told == told
    assert read_batch(Writer("maps", "bytes").batch(1.5, told)).told == told[3:]


def test_a_negative_integer_is_the_same_word() -> None:
    """Some readers and publishers take the 64 bits as signed."""
    (told,) = read_batch(msgspec.msgpack.encode([0.0, [["BlockRemoved", [-1]]]])).told
    assert told.event == BlocksRemoved([b"\xff" * 8])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"ts": 1.0}),
        msgspec.msgpack.encode([1.0]),
        msgspec.msgpack.encode([1.0, [{"block_hashes": []}], 0]),
        msgspec.msgpack.encode([1.0, [["BlockStored", [1], None, [1, 2, 3], 2]], 0]),
        msgspec.msgpack.encode([1.0, [["BlockStored", [1], None, [1, 2**40], 2]], 0]),
        msgspec.msgpack.encode([1.0, [["BlockStored", ["text"], None, [1, 2], 2]], 0]),
        msgspec.msgpack.encode([1.0, [7], 0]),
        msgspec.msgpack.encode("text"),
    ],
)
def test_what_is_no_batch_is_refused(message: bytes) -> None:
    with pytest.raises(WireError, match="no batch of KV events"):
        read_batch(message)


def test_events_of_later_versions_are_left_out() -> None:
    batch = [
        1.0,
        [{"type": "BlockInactive", "block_hashes": [1]}, {"type": "AllBlocksCleared", "new": 1}],
        None,
        "more",
    ]
    assert read_batch(msgspec.msgpack.encode(batch)).told == [Told(AllCleared())]


@pytest.mark.parametrize(
    ("scope", "salt", "adapter"),
    [
        ("", "", None),
        ("team/salt", "team/salt", None),
        ("team//lora:sql@v2@0f3a", "team", "sql@v2"),
        (private_scope("//shared//lora:sql@0f3a", 12, "team//lora:sql@0f3a"), "team", "sql"),
        (private_scope("//shared", 12, "team"), "team", None),
    ],
)
def test_a_scope_has_other_readers_names(scope: str, salt: str, adapter: str | None) -> None:
    assert reader_names(scope) == (salt, adapter)


def test_an_adapter_is_named_as_the_engine_names_it() -> None:
    assert ADAPTER == MARK


def test_a_scope_that_is_no_unicode_is_told_all_the_same() -> None:
    (told,) = read_batch(Writer().batch(1.0, [Told(BlocksStored(b"", [FIRST], [1, 2], 2, "a\ud800"))])).told
    assert told.event == BlocksStored(b"", [FIRST[8:]], [1, 2], 2, "a\\ud800")
