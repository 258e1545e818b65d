"""Processes of one host: messages over a Unix socket, their bytes through memory that both map.

The memory has two halves. A sender writes one while the receiver reads the other, and waits before it writes a half
whose message was not taken yet:

    half 0   | piece 0 |         | piece 2 |            the receiver says `taken` when it asks for the next message,
    half 1             | piece 1 |         | piece 3    and a third piece waits for the first `taken`
"""

from __future__ import annotations

import math
import mmap
import os
import socket
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

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

SHARED = Path("/dev/shm")
"""Files that are memory, where the system has such a folder."""
HALF_BYTES = 16 << 20
TAKEN = b"taken"


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
            self._connection.send_bytes(framed(message, size))
        except GONE as error:
            raise lost(error) from error
        self._sent += 1
        self._num_open += 1

    def _take_note(self) -> None:
        if not self._connection.poll(SILENCE):
            raise BlockingIOError
        if self._connection.recv_bytes() != TAKEN:
            raise HandoverError("the other process speaks out of turn")
        self._num_open -= 1

    def receive(self, seconds: float = math.inf) -> tuple[Message, memoryview]:
        try:
            if self._is_untaken:
                self._connection.send_bytes(TAKEN)
                self._is_untaken = False
            wait(self._connection, seconds)
            while (frame := self._connection.recv_bytes()) == TAKEN:
                self._num_open -= 1
                wait(self._connection, seconds)
        except GONE as error:
            raise lost(error) from error
        message, size = unframed(frame)
        if size > self._half:
            raise HandoverError("the other process did not send what it said")
        at = self._received % 2 * self._half
        self._received += 1
        self._is_untaken = True
        return message, memoryview(self._memory)[at : at + size]

    def close(self) -> None:
        with suppress(OSError):
            self._connection.close()


def connect(path: Path, half_bytes: int = HALF_BYTES) -> SharedMemoryChannel:
    """To who listens at this path. Raises HandoverError if nobody does."""
    with socket.socket(socket.AF_UNIX) as reached:
        limit(reached, PATIENCE, PATIENCE)
        try:
            reached.connect(str(path))
        except OSError as error:
            raise HandoverError(
                f"nobody listens at {path} ({error}); start `stemma serve --role prefill` first"
            ) from error
        number, name = tempfile.mkstemp(prefix="stemma-kv-", dir=SHARED if SHARED.is_dir() else None)
        connection = connection_of(reached)
        try:
            os.truncate(number, 2 * half_bytes)
            memory = mmap.mmap(number, 2 * half_bytes)
            connection.send_bytes(name.encode())
            connection.recv_bytes()  # it is mapped there too, and needs its name no more
            limit(reached, SILENCE, SILENCE)
        except GONE as error:
            connection.close()
            raise lost(error) from error
        finally:
            os.close(number)
            Path(name).unlink()
    return SharedMemoryChannel(connection, memory)


class SharedMemoryListener(Door[SharedMemoryChannel]):
    """Who connects. The path is a socket that only this user can open."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidRequest for a path that cannot be one."""
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            _clear(path)
            listening.bind(str(path))
            listening.listen(64)
        except OSError as error:
            listening.close()
            raise InvalidRequest(f"{path} cannot be listened at ({error}); name another path", "handover") from error
        finally:
            os.umask(before)
        self._path = path
        super().__init__(listening, _mapped)

    def close(self) -> None:
        """Nobody is let in any more. Safe to call twice."""
        if not self._closed.is_set():
            self._path.unlink(missing_ok=True)
        super().close()


def listen(path: Path) -> SharedMemoryListener:
    """Raises InvalidRequest for a path that cannot be one."""
    return SharedMemoryListener(path)


def _clear(path: Path) -> None:
    """Remove the socket of a process that was killed: nobody listens at it. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as asked, suppress(FileNotFoundError):
        try:
            asked.setblocking(False)
            asked.connect(str(path))
        except ConnectionRefusedError:
            if stat.S_ISSOCK(path.stat().st_mode):
                path.unlink()
        except BlockingIOError:
            return  # somebody does, and has many waiting


def _mapped(reached: socket.socket) -> SharedMemoryChannel:
    """A connection over memory that the other end names; takes the socket. Raises HandoverError."""
    limit(reached, PATIENCE, PATIENCE)
    connection = connection_of(reached)
    try:
        with open(connection.recv_bytes().decode(), "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        connection.send_bytes(TAKEN)
        limit(reached, FOR_EVER, SILENCE)
    except (*GONE, ValueError) as error:  # ValueError: no name, or no memory
        connection.close()
        raise lost(error) from error
    finally:
        reached.close()
    return SharedMemoryChannel(connection, memory)
