"""Processes of different hosts: messages and their bytes over TCP, behind a key that both know.

    a message   | 8 bytes: length of the bytes | msgpack |   | the bytes |    two frames, the second if there are bytes

Both sides prove the key before anything is said (a challenge and its HMAC, as multiprocessing has it). Nothing is
encrypted: texts' KV travels, so this is for a network one trusts, or a tunnel. A peer that vanishes, or takes nothing,
is noticed by the system within half a minute.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import NamedTuple
from urllib.parse import urlsplit

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.handover.protocol import HandoverError, Message
from stemma.runtime.handover.sockets import (
    FOR_EVER,
    GONE,
    PATIENCE,
    SILENCE,
    Door,
    connection_of,
    framed,
    limit,
    lost,
    unframed,
    wait,
)

SCHEME = "tcp"
MESSAGE_BYTES = 16 << 20
VANISHED = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""When a peer that says nothing is asked whether it is there, how often, and how long what was sent may be unheard."""


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
            self._connection.send_bytes(framed(message, size))
            if size:
                self._connection.send_bytes(b"".join(data))
        except GONE as error:
            raise lost(error) from error

    def receive(self, seconds: float = math.inf) -> tuple[Message, memoryview]:
        try:
            wait(self._connection, seconds)
            message, size = unframed(self._connection.recv_bytes(MESSAGE_BYTES))
            data = self._connection.recv_bytes(MESSAGE_BYTES) if size else b""
        except GONE as error:
            raise lost(error) from error
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


class NetworkListener(Door[NetworkChannel]):
    """Who calls and proves the key."""

    def __init__(self, address: Address, key: str) -> None:
        """Raises InvalidRequest for an address that cannot be listened at."""
        try:
            found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            listening = socket.create_server(found[0][4][:2], family=found[0][0], backlog=64)
        except OSError as error:
            raise InvalidRequest(
                f"tcp://{address.host}:{address.port} cannot be listened at ({error}); name another", "handover"
            ) from error
        super().__init__(listening, partial(_proved, key=key, begins=True))

    @property
    def address(self) -> Address:
        """With the port that it got."""
        host, port = self._socket.getsockname()[:2]
        return Address(host, port)


def _proved(reached: socket.socket, key: str, *, begins: bool) -> NetworkChannel:
    """A connection whose other end has the same key; takes the socket. Raises HandoverError, also where that end asks
    for no proof in the form of multiprocessing, which asserts it."""
    reached.settimeout(None)
    reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reached.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in VANISHED.items():
        if hasattr(socket, name):  # not on every system
            reached.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    limit(reached, PATIENCE, PATIENCE)
    connection = connection_of(reached)
    try:
        proofs = (deliver_challenge, answer_challenge)
        for proof in proofs if begins else reversed(proofs):
            proof(connection, key.encode())
        limit(reached, FOR_EVER if begins else SILENCE, SILENCE)
    except (*GONE, AuthenticationError, AssertionError, ValueError) as error:
        connection.close()
        why = "has another key" if isinstance(error, AuthenticationError) else f"has gone, or is no Stemma ({error})"
        raise HandoverError(f"the other process {why}") from error
    finally:
        reached.close()
    return NetworkChannel(connection)
