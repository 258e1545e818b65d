"""What a model says, told apart as it comes: words, which are the value, and thoughts before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from stemma.runtime.tongues.parser import AnswerParser
from stemma.runtime.tongues.pieces import Piece, ReasoningPiece, TextPiece


class Heard(NamedTuple):
    """More of either."""

    words: str = ""
    thoughts: str = ""


class Ear(Protocol):
    """Follows one output."""

    def push(self, text: str) -> Heard:
        """What has become certain."""

    def finish(self) -> Heard:
        """What was held back, at the end."""


class PlainEar:
    """All of it is words."""

    def push(self, text: str) -> Heard:
        return Heard(text)

    def finish(self) -> Heard:
        return Heard()


class TongueEar:
    """Of a model with a tongue; calls are neither."""

    def __init__(self, parser: AnswerParser) -> None:
        self._parser = parser

    def push(self, text: str) -> Heard:
        return _heard(self._parser.push(text))

    def finish(self) -> Heard:
        return _heard(self._parser.finish())


def _heard(pieces: Sequence[Piece]) -> Heard:
    words = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    return Heard(words, "".join(piece.text for piece in pieces if isinstance(piece, ReasoningPiece)))
