"""The text of single tokens, for log-probabilities and token lists."""

from __future__ import annotations

from stemma.runtime.model import Tokenizer


class TokenTexts:
    """Texts of one tokenizer's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {index: text for text, index in tokenizer.special.items()}

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
