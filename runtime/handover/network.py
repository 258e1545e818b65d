"""Processes of different hosts: messages and their bytes over TCP, behind a key that both know.

    a message   | 8 bytes: length of the bytes | msgpack |   | the bytes |    two frames, the second if there are bytes

Both sides prove the key before anything is said (a challenge and its HMAC, as multiprocessing has it). Nothing is
encrypted: texts' KV travels, so this is for a network one trusts, or a tunnel. A peer that vanishes is noticed by
keepalive within half a minute.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from queue import SimpleQueue
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.handover.protocol import HandoverError, Message

SCHEME = "tcp"
MESSAGE_BYTES = 16 << 20
HEADER = 8
PATIENCE = 5
"""Seconds for a connection to be made, and for the key to be proved."""
SILENCE = 10
"""Seconds in which who was asked says at least that it is still at work, and who asked takes what was sent; a process
that hangs holds nobody up for longer. Who listens waits for the next question as long as it takes."""
VANISHED = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""When a peer that says nothing is asked whether it is there, how often, and how long what was sent may be unheard."""
GONE = (EOFError, OSError)


class Address(NamedTuple):
    """Where to listen, or whom to call."""

    host: str
    port: int


def address_of(place: str) -> Address:
    """`tcp://HOST:PORT`. Raises InvalidRequest for what is none."""
    try:
        parts = urlsplit(place)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.scheme != SCHEME or parts.path not in ("", "/"):
        raise InvalidRequest(f"{place} is no tcp://HOST:PORT, nor the path of a socket", "handover")
    return Address(host, port)


class NetworkChannel:
    """See `Channel`. The operating system's buffers hold what the other end has not yet taken."""

    room = MESSAGE_BYTES

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: Message, data: Sequence[bytes] = ()) -> None:
        size = sum(map(len, data))
        if size > self.room:
            raise HandoverError(f"{size:,} bytes do not fit the {self.room:,} that a message may have")
        try:
            self._connection.send_bytes(size.to_bytes(HEADER, "little") + msgspec.msgpack.encode(message))
            if size:
                self._connection.send_bytes(b"".join(data))
        except GONE as error:
            raise HandoverError("the other process has gone") from error

    def receive(self) -> tuple[Message, memoryview]:
        try:
            frame = self._connection.recv_bytes(MESSAGE_BYTES)
            size = int.from_bytes(frame[:HEADER], "little")
            data = self._connection.recv_bytes(MESSAGE_BYTES) if size else b""
            message = msgspec.msgpack.decode(frame[HEADER:], type=Message)
        except GONE as error:
            raise HandoverError("the other process has gone") from error
        except msgspec.DecodeError as error:
            raise HandoverError(f"the other process speaks another language: {error}") from error
        if len(data) != size:
            raise HandoverError("the other process did not send what it said")
        return message, memoryview(data)

    def close(self) -> None:
        with suppress(OSError):
            self._connection.close()


def call(address: Address, key: str) -> NetworkChannel:
    """Connect to who listens there. Raises HandoverError if nobody does, or with another key."""
    try:
        reached = socket.create_connection(address, PATIENCE)
    except OSError as error:
        raise HandoverError(
            f"nobody listens at {address.host}:{address.port} ({error}); start the other role"
        ) from error
    return _proved(reached, key, begins=False)


class NetworkListener:
    """Who calls and proves the key, one after the other. Nobody waits for one that is slow to."""

    def __init__(self, address: Address, key: str) -> None:
        """Raises InvalidRequest for an address that cannot be listened at."""
        try:
            found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self._socket = socket.create_server(found[0][4][:2], family=found[0][0], backlog=64)
        except OSError as error:
            raise InvalidRequest(
                f"tcp://{address.host}:{address.port} cannot be listened at ({error}); name another", "handover"
            ) from error
        self._key = key
        self._proved: SimpleQueue[NetworkChannel | None] = SimpleQueue()
        self._is_closed = False
        threading.Thread(target=self._accept, name="stemma-handover-door", daemon=True).start()

    @property
    def address(self) -> Address:
        """With the port that it got."""
        host, port = self._socket.getsockname()[:2]
        return Address(host, port)

    def __iter__(self) -> Iterator[NetworkChannel]:
        while (channel := self._proved.get()) is not None:
            if self._is_closed:
                channel.close()
                continue
            yield channel

    def close(self) -> None:
        """Nobody is let in any more. Safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for the next
            self._socket.close()
            self._proved.put(None)

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                reached, _ = self._socket.accept()
            except OSError:
                continue  # who called has gone, or it is closed
            threading.Thread(target=self._let_in, args=(reached,), name="stemma-handover-key", daemon=True).start()

    def _let_in(self, reached: socket.socket) -> None:
        with suppress(HandoverError):
            self._proved.put(_proved(reached, self._key, begins=True))


def _proved(reached: socket.socket, key: str, *, begins: bool) -> NetworkChannel:
    """A connection whose other end has the same key; takes the socket. Raises HandoverError, also where that end asks
    for no proof in the form of multiprocessing, which asserts it."""
    reached.settimeout(None)
    reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reached.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in VANISHED.items():
        if hasattr(socket, name):  # not on every system
            reached.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    _limit(reached, PATIENCE, PATIENCE)
    connection = Connection(os.dup(reached.fileno()))
    try:
        proofs = (deliver_challenge, answer_challenge)
        for proof in proofs if begins else reversed(proofs):
            proof(connection, key.encode())
        _limit(reached, 0 if begins else SILENCE, SILENCE)
    except (*GONE, AuthenticationError, AssertionError, ValueError) as error:
        connection.close()
        why = "has another key" if isinstance(error, AuthenticationError) else f"has gone, or is no Stemma ({error})"
        raise HandoverError(f"the other process {why}") from error
    finally:
        reached.close()
    return NetworkChannel(connection)


def _limit(reached: socket.socket, reading: int, writing: int) -> None:
    """How many seconds a read and a write may wait; 0 is for ever."""
    for option, seconds in ((socket.SO_RCVTIMEO, reading), (socket.SO_SNDTIMEO, writing)):
        reached.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))
