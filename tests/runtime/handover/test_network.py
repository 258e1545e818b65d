"""Prefill on one host, decode on another: the same tokens; who lacks the key hears nothing and holds nobody up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.handover import DecodeEntrance, HandoverError, NetworkListener, PrefillService, Taker, call
from stemma.runtime.handover.network import MESSAGE_BYTES, Address, NetworkChannel, address_of
from stemma.runtime.handover.protocol import Done, Piece, Refused
from stemma.runtime.model.tiny import tiny

KEY = "a key of both"
HERE = Address("127.0.0.1", 0)


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


@contextmanager
def listening() -> Iterator[NetworkListener]:
    listener = NetworkListener(HERE, KEY)
    yield listener
    listener.close()


@contextmanager
def both() -> Iterator[tuple[NetworkChannel, NetworkChannel]]:
    """Two ends of a connection."""
    with listening() as listener:
        there = call(listener.address, KEY)
        here = next(iter(listener))
        yield here, there
        here.close()
        there.close()


@pytest.fixture(scope="module", params=["llama", "gemma3_text", "qwen3_next"])
def loaded(request):
    return tiny(select_ops("cpu", "cpu"), request.param)


def test_tokens_are_those_of_one_engine_and_nothing_is_computed_twice(loaded):
    prompts = [prompt(length, length) for length in (70, 129, 333)]
    options = {"kv_tokens": 4096, "max_chunk": 32}
    with Engine.of(loaded, **options) as alone:
        expected = [alone.generate(ids, max_tokens=12).tokens for ids in prompts]
    with Engine.of(loaded, **options) as giving, Engine.of(loaded, **options) as taking, listening() as listener:
        threading.Thread(target=PrefillService(giving).serve, args=(listener,), daemon=True).start()
        saver, made = taking.saver(), []

        def enter(loop):
            made.append(DecodeEntrance(loop, lambda at: Taker(call(at, KEY), saver), lambda: listener.address))
            return made[0]

        taking.enter_by(enter)
        found = [taking.generate(ids, max_tokens=12) for ids in prompts]
        assert [each.tokens for each in found] == expected
        assert [each.usage.prefilled_tokens for each in found] == [1, 1, 1]
        assert (made[0].num_handed, made[0].num_failed) == (3, 0)
        made[0].close()
        for engine in (giving, taking):
            engine.with_cache(lambda cache: cache.check())


def test_messages_come_in_order_with_their_bytes():
    data = [b"a" * 5, b"", b"b" * MESSAGE_BYTES]
    with both() as (here, there):
        sent = [(Refused("one"), []), (Piece(3, 40, [(7, 1)]), [data[0], data[1]]), (Done(), [])]

        def send() -> None:
            for message, parts in sent:
                here.send(message, parts)
            here.send(Done(), [data[2]])

        sender = threading.Thread(target=send)
        sender.start()
        for message, parts in sent:
            got, content = there.receive()
            assert (got, bytes(content)) == (message, b"".join(parts))
        assert len(there.receive()[1]) == MESSAGE_BYTES
        sender.join()
        with pytest.raises(HandoverError, match="do not fit"):
            here.send(Done(), [bytes(MESSAGE_BYTES + 1)])


def test_another_key_is_refused_on_both_sides_and_the_right_one_let_in():
    with listening() as listener:
        with pytest.raises(HandoverError, match="key"):
            call(listener.address, "another")
        there = call(listener.address, KEY)
        here = next(iter(listener))
        here.send(Done())
        assert isinstance(there.receive()[0], Done)
        there.close()
        here.close()


def test_one_that_says_nothing_holds_nobody_up():
    with listening() as listener, socket.create_connection(listener.address):
        there = call(listener.address, KEY)
        next(iter(listener)).close()
        there.close()


@pytest.mark.parametrize("noise", [b"", b"\x00", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40])
def test_one_that_speaks_another_language_is_left_out(noise):
    with listening() as listener:
        with socket.create_connection(listener.address) as odd:
            odd.sendall(noise)
        there = call(listener.address, KEY)
        next(iter(listener)).close()
        with pytest.raises(HandoverError, match="gone"):
            there.receive()
        there.close()


@pytest.mark.parametrize("noise", [b"HTTP/1.1 200 OK\r\n", b"\0\0\0\5hello", b"\0\0\0\0"])
def test_whoever_asks_for_no_proof_is_no_handover(noise):
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def answer() -> None:
            with odd.accept()[0] as caller:
                caller.sendall(noise)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(HandoverError, match="no Stemma"):
            call(Address(*odd.getsockname()), KEY)
        thread.join()


def test_what_is_no_message_is_told():
    with both() as (here, there):
        here._connection.send_bytes((0).to_bytes(8, "little") + b"no message")
        with pytest.raises(HandoverError, match="another language"):
            there.receive()
        here._connection.send_bytes((9).to_bytes(8, "little") + b"\x81\xa4type\xa4Done")
        here._connection.send_bytes(b"short")
        with pytest.raises(HandoverError, match="what it said"):
            there.receive()


def test_a_process_that_goes_is_heard():
    with both() as (here, there):
        there.close()
        with pytest.raises(HandoverError, match="gone"):
            here.receive()


def test_where_nobody_listens_it_is_told():
    with listening() as listener:
        address = listener.address
    with pytest.raises(HandoverError, match="nobody listens"):
        call(address, KEY)


def test_closing_ends_the_waiting():
    listener = NetworkListener(HERE, KEY)
    heard: list[object] = []
    thread = threading.Thread(target=lambda: heard.extend(listener))
    thread.start()
    listener.close()
    listener.close()
    thread.join(20)
    assert not thread.is_alive()
    assert heard == []


@pytest.mark.parametrize(
    "place", ["tcp://", "tcp://host", "tcp://host:x", "tcp://host:1/path", "http://host:1", "tcp://h:99999"]
)
def test_what_is_no_address_is_refused(place):
    with pytest.raises(InvalidRequest) as refused:
        address_of(place)
    assert refused.value.param == "handover"


def test_an_address_that_is_taken_is_refused():
    with listening() as listener, pytest.raises(InvalidRequest) as refused:
        NetworkListener(listener.address, KEY)
    assert refused.value.param == "handover"
