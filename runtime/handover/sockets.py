"""What connections have in common, whatever kind their sockets are: how long each end waits for the other, how a
message is framed, and a door at which nobody waits for one that is slow."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Generic, TypeVar

import msgspec

from stemma.runtime.handover.protocol import Channel, HandoverError, Message

HEADER = 8
"""Bytes of a frame that say how many bytes come with its message."""
PATIENCE = 5
"""Seconds for a connection to be made, and for both ends to greet each other."""
SILENCE = 10
"""Seconds in which who was asked says at least that it is still at work, and who asked takes what was sent; a process
that hangs holds nobody up for longer. Who listens waits for the next question as long as it takes."""
FOR_EVER = 0
PAUSE = 0.1
"""Seconds between two tries where nobody can be let in: there are no more files to open, say."""
GONE = (EOFError, OSError)
C = TypeVar("C", bound=Channel)


def limit(reached: socket.socket, reading: int, writing: int) -> None:
    """How many seconds a read and a write may wait, and with the latter the making of a connection."""
    for option, seconds in ((socket.SO_RCVTIMEO, reading), (socket.SO_SNDTIMEO, writing)):
        reached.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))


def connection_of(reached: socket.socket) -> Connection:
    """The same connection, for messages that are whole; the socket stays the caller's to close."""
    return Connection(os.dup(reached.fileno()))


def wait(connection: Connection, seconds: float) -> None:
    """Until the other end says something, as long as that is less than what `limit` says. Raises OSError."""
    if seconds < SILENCE and not connection.poll(max(0.0, seconds)):
        raise BlockingIOError


def lost(error: Exception) -> HandoverError:
    """What there is to say of a connection that failed."""
    if isinstance(error, BlockingIOError):  # the time of `limit` is over
        return HandoverError("the other process is there, and does not answer in time")
    return HandoverError("the other process has gone")


def framed(message: Message, size: int) -> bytes:
    """A message with which come so many bytes."""
    return size.to_bytes(HEADER, "little") + msgspec.msgpack.encode(message)


def unframed(frame: bytes) -> tuple[Message, int]:
    """The message of a frame, and how many bytes come with it. Raises HandoverError for what is none."""
    try:
        message: Message = msgspec.msgpack.decode(frame[HEADER:], type=Message)
    except msgspec.DecodeError as error:
        raise HandoverError(f"the other process speaks another language: {error}") from error
    return message, int.from_bytes(frame[:HEADER], "little")


class Door(Generic[C]):
    """Those who come to a listening socket and are let in, one after the other. Nobody waits for one that is slow.

    let_in: greets one, taking the socket; raises HandoverError for who is not let in.
    """

    def __init__(self, listening: socket.socket, let_in: Callable[[socket.socket], C]) -> None:
        self._socket = listening
        self._let_in = let_in
        self._inside: SimpleQueue[C | None] = SimpleQueue()
        self._closed = threading.Event()
        threading.Thread(target=self._accept, name="stemma-handover-door", daemon=True).start()

    def __iter__(self) -> Iterator[C]:
        while (channel := self._inside.get()) is not None:
            if self._closed.is_set():
                channel.close()
                continue
            yield channel

    def close(self) -> None:
        """Nobody is let in any more. Safe to call twice."""
        if not self._closed.is_set():
            self._closed.set()
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for the next
            self._socket.close()
            self._inside.put(None)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                reached, _ = self._socket.accept()
            except OSError:  # who called has gone, nobody can be let in now, or it is closed
                self._closed.wait(PAUSE)
                continue
            threading.Thread(target=self._greet, args=(reached,), name="stemma-handover-greeting", daemon=True).start()

    def _greet(self, reached: socket.socket) -> None:
        with suppress(HandoverError):
            self._inside.put(self._let_in(reached))
