"""Processes of one host: messages over a Unix socket, their bytes through memory that both map.

The memory has two halves. A sender writes one while the receiver reads the other, and waits before it writes a half
whose message was not taken yet:

    half 0   | piece 0 |         | piece 2 |            the receiver says `taken` when it asks for the next message,
    half 1             | piece 1 |         | piece 3    and a third piece waits for the first `taken`
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import msgspec

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.handover.protocol import HandoverError, Message

SHARED = Path("/dev/shm")
"""Files that are memory, where the system has such a folder."""
HALF_BYTES = 16 << 20
TAKEN = b"taken"
HEADER = 8
"""Bytes of a frame that say how many bytes of the half belong to it."""
GONE = (EOFError, OSError)


class SharedMemoryChannel:
    """See `Channel`. Pages of the memory that no message has used take no room."""

    def __init__(self, connection: Connection, memory: mmap.mmap) -> None:
        self._connection = connection
        self._memory = memory
        self._half = len(memory) // 2
        self._sent = self._received = self._num_open = 0
        self._is_untaken = False

    @property
    def room(self) -> int:
        return self._half

    def send(self, message: Message, data: Sequence[bytes] = ()) -> None:
        size = sum(map(len, data))
        if size > self._half:
            raise HandoverError(f"{size:,} bytes do not fit the {self._half:,} that a message may have")
        try:
            while self._num_open >= 2:
                self._take_note()
            at = self._sent % 2 * self._half
            for part in data:
                self._memory[at : at + len(part)] = part
                at += len(part)
            self._connection.send_bytes(size.to_bytes(HEADER, "little") + msgspec.msgpack.encode(message))
        except GONE as error:
            raise HandoverError("the other process has gone") from error
        self._sent += 1
        self._num_open += 1

    def _take_note(self) -> None:
        if self._connection.recv_bytes() != TAKEN:
            raise HandoverError("the other process speaks out of turn")
        self._num_open -= 1

    def receive(self) -> tuple[Message, memoryview]:
        try:
            if self._is_untaken:
                self._connection.send_bytes(TAKEN)
            while (frame := self._connection.recv_bytes()) == TAKEN:
                self._num_open -= 1
        except GONE as error:
            raise HandoverError("the other process has gone") from error
        size, at = int.from_bytes(frame[:HEADER], "little"), self._received % 2 * self._half
        self._received += 1
        self._is_untaken = True
        return msgspec.msgpack.decode(frame[HEADER:], type=Message), memoryview(self._memory)[at : at + size]

    def close(self) -> None:
        with suppress(OSError):
            self._connection.close()


def connect(path: Path, half_bytes: int = HALF_BYTES) -> SharedMemoryChannel:
    """To who listens at this path. Raises HandoverError if nobody does."""
    try:
        connection = Client(str(path), "AF_UNIX")
    except OSError as error:
        raise HandoverError(f"nobody listens at {path} ({error}); start `stemma serve --role prefill` first") from error
    number, name = tempfile.mkstemp(prefix="stemma-kv-", dir=SHARED if SHARED.is_dir() else None)
    try:
        os.truncate(number, 2 * half_bytes)
        memory = mmap.mmap(number, 2 * half_bytes)
        connection.send_bytes(name.encode())
        connection.recv_bytes()  # it is mapped there too, and needs its name no more
    except GONE as error:
        raise HandoverError("the other process has gone") from error
    finally:
        os.close(number)
        Path(name).unlink()
    return SharedMemoryChannel(connection, memory)


class SharedMemoryListener:
    """Who connects, one after the other. The path is a socket that only this user can open."""

    def __init__(self, path: Path) -> None:
        before = os.umask(0o177)
        try:
            self._listener = Listener(str(path), "AF_UNIX", backlog=64)
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be listened at ({error}); name another path", "handover") from error
        finally:
            os.umask(before)
        self._is_closed = False

    def __iter__(self) -> Iterator[SharedMemoryChannel]:
        while not self._is_closed:
            try:
                connection = self._listener.accept()
                if self._is_closed:
                    connection.close()
                    return
                name = connection.recv_bytes().decode()
                with open(name, "r+b") as file:
                    memory = mmap.mmap(file.fileno(), 0)
                connection.send_bytes(TAKEN)
            except GONE:
                continue  # whoever it was has gone
            yield SharedMemoryChannel(connection, memory)

    def close(self) -> None:
        """Nobody is let in any more."""
        if not self._is_closed:
            self._is_closed = True
            with suppress(OSError):
                Client(str(self._listener.address), "AF_UNIX").close()  # wakes who waits for the next
            self._listener.close()


def listen(path: Path) -> SharedMemoryListener:
    """Raises InvalidRequest for a path that cannot be one."""
    return SharedMemoryListener(path)
