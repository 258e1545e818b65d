"""Prompts that another process has read, so that a request is written by the template and split into tokens once.

who routes    key of (messages, tools, values, ending), tokens --->    who answers: the same key? then these

A key is of everything that the tokens come from: what was asked, and the tokenizer and template that read it. Whoever
has another model, or asks for something else, finds nothing and reads for itself. Only what is trusted may offer here:
it comes from a process of the same deployment, never from a client.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from stemma.runtime.model import LoadedModel, ModelText
from stemma.version import VERSION


class Reading(NamedTuple):
    """Tokens of a prompt, as 32-bit integers in this machine's order, and the key of what they were read from."""

    key: bytes
    tokens: bytes

    @classmethod
    def of(cls, key: bytes, tokens: list[int]) -> Reading:
        """For another process."""
        return cls(key, array("i", tokens).tobytes())


class Readings:
    """What was read elsewhere of the requests at hand. Any thread may use it."""

    def __init__(self, loaded: LoadedModel | ModelText) -> None:
        self._loaded = loaded
        self._offered: dict[bytes, list[Reading]] = {}
        self._lock = threading.Lock()

    @cached_property
    def fingerprint(self) -> bytes:
        """Of all but the request that tokens depend on."""
        template, state = self._loaded.chat_template, blake2b(digest_size=16)
        sources = ("", "") if template is None else (template.source, template.tool_source)
        ends = repr(sorted(self._loaded.generation.eos_ids))
        for part in (VERSION, self._loaded.tokenizer.fingerprint, ends, *sources):
            state.update(len(part).to_bytes(8, "little") + part.encode("utf-8", "surrogatepass"))
        return state.digest()

    def key(self, *asked: Any) -> bytes:
        """Of what a prompt is read from: messages and such, as they came over the wire."""
        said = msgspec.msgpack.encode(asked)
        return blake2b(said, digest_size=16, key=self.fingerprint).digest()

    def find(self, *asked: Any) -> list[int] | None:
        """The tokens, if somebody has read this."""
        if not self._offered:
            return None
        key = self.key(*asked)
        with self._lock:
            found = self._offered.get(key)
            reading = found[-1] if found else None
        if reading is None:
            return None
        tokens = array("i")
        tokens.frombytes(reading.tokens)
        return tokens.tolist()

    @contextmanager
    def offered(self, reading: Reading | None) -> Iterator[None]:
        """Inside, it is found."""
        if reading is None:
            yield
            return
        with self._lock:
            self._offered.setdefault(reading.key, []).append(reading)
        try:
            yield
        finally:
            with self._lock:
                same = self._offered[reading.key]
                same.pop()
                if not same:
                    del self._offered[reading.key]
