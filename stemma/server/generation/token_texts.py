"""The text of single tokens, and where it stands in the whole text, for log-probabilities and token lists."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping
from types import MappingProxyType

from stemma.runtime.model import Tokenizer


class TokenTexts:
    """Texts of one tokenizer's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = tokenizer.special_names

    def data(self, token: int) -> bytes:
        """The bytes of a token; of a special one, the bytes of its name."""
        known = self._tokenizer.token_bytes(token)
        return self._special.get(token, "").encode() if known is None else known

    def text(self, token: int) -> str:
        """The text of a token; a part of a character is written `bytes:\\xe2\\x82`, as OpenAI does."""
        data = self.data(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def offsets(self, shown: Collection[int] = ()) -> TextOffsets:
        """Offsets for the tokens of a new text, in which these special tokens are shown."""
        return TextOffsets(self._tokenizer, {token: self._special[token] for token in shown if token in self._special})


class TextOffsets:
    """Where the tokens of one text begin in it: the length of the text before them, in characters.

    A character that is split over tokens is in the text with its last one:

    tokens    E6 97 | A5 | E6 9C AC | 20 69 73        text   日本 is
    offsets    0       0    1          2

    A special token has no text unless it is shown. Bytes that are no UTF-8 are U+FFFD there as in every text.
    """

    def __init__(self, tokenizer: Tokenizer, shown: Mapping[int, str] = MappingProxyType({})) -> None:
        self._tokenizer = tokenizer
        self._shown = shown
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.text_len = 0

    def next(self, token: int) -> int:
        """The offset of the next token."""
        if token in self._shown:
            self.text_len += len(self._decoder.decode(b"", final=True))
            offset = self.text_len
            self.text_len += len(self._shown[token])
            return offset
        data = self._tokenizer.token_bytes(token) or b""
        pending, _ = self._decoder.getstate()
        breaks = bool(pending and data) and not _goes_on(pending + data[:1])
        offset = self.text_len + breaks
        self.text_len += len(self._decoder.decode(data))
        return offset


def _goes_on(data: bytes) -> bool:
    """Whether these bytes are a character, or the beginning of one."""
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(data)
    except UnicodeDecodeError:
        return False
    return True
