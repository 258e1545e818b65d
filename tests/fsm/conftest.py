"""What the tests of `fsm` share: a small vocabulary of bytes and pieces."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator

import pytest

from stemma.fsm import Vocabulary
from stemma.fsm.vocabulary import disk_cache

PIECES = ["the", "ing", " a", " b", "ab", "abc", "bc", '"', '":', '","', '{"', '"}', "}}", "[[", "],", "  ", "\n",
          "true", "false", "null", "12", "123", ".5", "e+", "é", "ßü", "中文", "\\n", "\\u0", '": "', "_x",
          "\u2028", "a\u2029b", "中\u2027"]  # fmt: skip


def build_vocabulary(seed: int = 0, extra: int = 300) -> Vocabulary:
    """All bytes, pieces of JSON and of words, random joints of them, some twice, two special tokens."""
    draw = random.Random(seed)
    tokens = [bytes([byte]) for byte in range(256)] + [piece.encode() for piece in PIECES]
    for _ in range(extra):
        tokens.append(b"".join(draw.choices(tokens, k=draw.randint(2, 3)))[: draw.randint(1, 12)])
    special = {"<|end|>": len(tokens), "<|tool|>": len(tokens) + 1}
    return Vocabulary([*tokens, b"<|end|>", None], special, [len(tokens)])


@pytest.fixture(scope="session")
def byte_vocabulary() -> Callable[[int], Vocabulary]:
    """A small vocabulary by its seed."""
    return functools.cache(build_vocabulary)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tables of these vocabularies stay out of the user's cache directory; the kernels' machine code is everybody's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk_cache, "cache_folder", lambda: folder)
        yield
