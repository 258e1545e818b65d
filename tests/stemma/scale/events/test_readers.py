"""Readers that others wrote, on what this publishes: each holds exactly what the cache has.

vLLM's structs are declared here as its documentation shows them; SMG's reader is `smg-grpc-servicer`, which turns the
messages into what the gateway's index takes; Dynamo's is its standalone indexer, which listens, asks for what it missed
and answers over HTTP. llm-d's is written in Go and in no registry that is used here.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("zmq", reason="pyzmq is not installed")

import zmq
import zmq.asyncio

from stemma.radix import MarkRoom
from stemma.scale.events import Publisher
from tests.stemma.scale.events.worlds import SIZE, World, options

# vLLM: https://docs.vllm.ai/en/latest/examples/features/kv_events/ ----------------------------------------------------


class VllmEvent(msgspec.Struct, omit_defaults=True, tag=True):
    pass


class BlockStored(VllmEvent, tag="BlockStored"):
    block_hashes: list[bytes | int]
    parent_block_hash: bytes | int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: list[tuple[Any, ...] | None] | None = None
    group_idx: int | None = None
    locality: str | None = None


class BlockRemoved(VllmEvent, tag="BlockRemoved"):
    block_hashes: list[bytes | int]
    medium: str | None
    group_idx: int | None = None


class AllBlocksCleared(VllmEvent, tag="AllBlocksCleared"):
    pass


class VllmBatch(msgspec.Struct, array_like=True, omit_defaults=True):
    ts: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    data_parallel_rank: int | None = None


class OlderStored(BlockStored, array_like=True, tag="BlockStored"):
    pass


class OlderRemoved(BlockRemoved, array_like=True, tag="BlockRemoved"):
    pass


class OlderCleared(VllmEvent, array_like=True, tag="AllBlocksCleared"):
    pass


class OlderBatch(msgspec.Struct, array_like=True, omit_defaults=True):
    ts: float
    events: list[OlderStored | OlderRemoved | OlderCleared]
    data_parallel_rank: int | None = None


def held(batches: list[Any]) -> dict[int | bytes, tuple[str, tuple[int, ...]]]:
    """What a reader of vLLM's knows after these: scope and text of each block."""
    found: dict[int | bytes, tuple[str, tuple[int, ...]]] = {}
    for event in (event for batch in batches for event in batch.events):
        if isinstance(event, BlockStored):
            assert len(event.token_ids) == event.block_size * len(event.block_hashes)
            keys, parent = event.extra_keys or [None], event.parent_block_hash
            for index, name in enumerate(event.block_hashes):
                above = () if parent is None else found[parent][1]
                tokens = event.token_ids[index * event.block_size : (index + 1) * event.block_size]
                found[name] = (keys[0][0] if keys[0] else "", above + tuple(tokens))
                parent = name
        elif isinstance(event, BlockRemoved):
            for name in event.block_hashes:
                del found[name]
        else:
            found.clear()
    return found


def heard_by(reader: zmq.Socket[bytes], publisher: Publisher) -> Iterator[list[bytes]]:
    """All that was sent up to now."""
    wait_until(lambda: publisher._intake._is_waiting)
    last = publisher._next_seq - 1
    while True:
        frames = reader.recv_multipart()
        yield frames
        if int.from_bytes(frames[1], "big") >= last:
            return


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("hashes", ["int", "bytes"])
@pytest.mark.parametrize(("form", "schema"), [("maps", VllmBatch), ("arrays", OlderBatch)])
def test_vllms_structs_decode_it_and_hold_what_the_cache_has(form: str, schema: Any, hashes: str) -> None:
    world = World(11, MarkRoom(None, 0, 12))
    with (
        Publisher(world.between, options(form=form, hashes=hashes, topic="kv", marks=True)) as publisher,
        zmq.Context() as context,
        context.socket(zmq.SUB) as reader,
    ):
        reader.set(zmq.RCVTIMEO, 10_000)
        reader.subscribe(b"kv")
        reader.connect(publisher.endpoint)
        wait_until(lambda: world.live(1) or reader.poll(10))
        world.between(lambda cache: cache.clear())
        world.live(150)
        frames = list(heard_by(reader, publisher))
    assert {frame[0] for frame in frames} == {b"kv"}
    assert [int.from_bytes(frame[1], "big") for frame in frames] == list(
        range(publisher._next_seq - len(frames), publisher._next_seq)
    )
    batches = [msgspec.msgpack.decode(frame[2], type=schema) for frame in frames]
    clear_at = next(
        index for index, batch in enumerate(batches) if any(hasattr(e, "block_hashes") is False for e in batch.events)
    )
    first = batches[clear_at]
    while hasattr(first.events[0], "block_hashes"):
        first.events.pop(0)
    known = held(batches[clear_at:])
    assert set(known.values()) == world.texts()
    assert {batch.data_parallel_rank for batch in batches} == {0}
    assert all(isinstance(name, int) and 0 <= name < 2**64 for name in known) == (hashes == "int")


# SMG ----------------------------------------------------------------


def test_smgs_reader_has_what_the_cache_has() -> None:
    reading = pytest.importorskip("smg_grpc_servicer.kv_events", reason="smg-grpc-servicer is not installed")
    world, decode = World(12, MarkRoom(None, 0, 12)), msgspec.msgpack.Decoder(VllmBatch).decode

    async def read(publisher: Publisher) -> list[Any]:
        context = zmq.asyncio.Context()
        reader, batches = context.socket(zmq.SUB), []
        reader.subscribe(b"")
        reader.connect(reading.endpoint_for_rank(publisher.endpoint, 0))

        async def live() -> None:
            await asyncio.sleep(0.3)
            world.between(lambda cache: cache.clear())
            await asyncio.to_thread(world.live, 150)
            await asyncio.to_thread(wait_until, lambda: publisher._intake._is_waiting)

        living = asyncio.create_task(live())

        def is_done() -> bool:
            return living.done() and batches[-1].sequence_number == publisher._next_seq - 1

        async for batch in reading.stream_kv_events(reader, decode, _nothing, is_done, recv_timeout=0.1):
            batches.append(batch)
        context.destroy(linger=0)
        return batches

    with Publisher(world.between, options(marks=True)) as publisher:
        batches = asyncio.run(read(publisher))
    found: dict[int, tuple[int, ...]] = {}
    for event in (event for batch in batches for event in batch.events):
        match event.WhichOneof("data"):
            case "stored":
                parent = event.stored.parent_block_hash if event.stored.HasField("parent_block_hash") else None
                for block in event.stored.blocks:
                    found[block.block_hash] = (*(() if parent is None else found.get(parent, ())), *block.token_ids)
                    parent = block.block_hash
            case "removed":
                for name in event.removed.block_hashes:
                    found.pop(name, None)
            case "cleared":
                found.clear()
    assert sorted(found.values()) == sorted(text for _, text in world.texts())


async def _nothing() -> None:
    return


# Dynamo ----------------------------------------------------------------


@contextmanager
def dynamo_indexer(log: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dynamo.indexer", "--block-size", str(SIZE), "--port", str(port), "--threads", "1"]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            wait_until(lambda: "listening" in log.read_text())
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def ask(url: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def blocks_of(dump: Any) -> set[int]:
    """The blocks that Dynamo's index holds."""
    events = [each["event"]["data"]["stored"] for each in dump["m:default"]["events"]]
    return {block["block_hash"] for event in events for block in event["blocks"]}


@pytest.mark.parametrize("kept", [10_000, 2])
def test_dynamos_indexer_has_what_the_cache_has(kept: int, tmp_path: Path) -> None:
    """Also where it begins late, and all is no longer kept."""
    pytest.importorskip("dynamo.indexer", reason="ai-dynamo-runtime is not installed")
    world = World(13)
    with (
        dynamo_indexer(tmp_path / "indexer.log") as url,
        Publisher(world.between, options(kept=kept)) as publisher,
    ):
        for _ in range(10):
            world.live(10)
            wait_until(lambda: publisher._intake._is_waiting)
        where = {"endpoint": publisher.endpoint, "replay_endpoint": publisher.replay}
        ask(url, "/register", {"instance_id": 1, "model_name": "m", "block_size": SIZE, "dp_rank": 0} | where)
        time.sleep(0.5)
        world.live(100)
        known = publisher._mirror.blocks
        wait_until(lambda: blocks_of(ask(url, "/dump")) == {int.from_bytes(name[-8:]) for name in known})
        plain = [(scope, text) for scope, text in world.texts() if scope in ("", "team")]
        assert plain
        for salt, text in plain:
            body = {"token_ids": text, "model_name": "m", "cache_salt": salt}
            assert ask(url, "/query", body)["instances"]["1"]["gpu"] == len(text)
