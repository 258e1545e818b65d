"""Text to tokens and back. Text never becomes a special token: only `encode_template` and token ids written by the
caller do that. Holds no state but its tables; every method may be called from any thread."""

from __future__ import annotations

import codecs
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import tokenizers

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.text import tokenizer_spec
from stemma.runtime.model.text.building import build
from stemma.runtime.model.text.pair_merging import merges_in_known_pieces

WORD = re.compile(r"\w")


class Tokenizer:
    """A model's vocabulary.

    special: the tokens that text cannot become, by their text. special_names: their texts, by the tokens.
    special_texts: the texts of roles in chat templates: bos_token, eos_token, ...
    vocab_size: ids the model has, of which the last ones may have no token.
    prefix_ids: tokens that begin a plain prompt (bos, or nothing).
    suffix_ids: tokens that end a text which is embedded (eos, or nothing).
    joins_pairs: it joins pairs inside pieces, and how it splits those off is known (see `pair_merging`).
    takes_whole_pieces: a piece that is a token is taken as it is, whatever joining its pairs would give.
    added: texts that become tokens of their own before text is split.
    """

    def __init__(self, files: TokenizerFiles, vocab_size: int) -> None:
        spec = files.spec
        control = tokenizer_spec.control_tokens(spec, (files.chat_template or "") + (files.tool_template or ""))
        text_spec = tokenizer_spec.for_text(spec, control)
        self.vocab_size = vocab_size
        self.special: Mapping[str, int] = MappingProxyType(control)
        self.special_names: Mapping[int, str] = MappingProxyType({token: text for text, token in control.items()})
        self.special_texts = files.special
        self.bos_id = control.get(files.special.get("bos_token", ""))
        self._bytes = tokenizer_spec.vocabulary_bytes(spec, vocab_size)
        self._first = build(text_spec)
        self._leads = tokenizer_spec.adds_leading_space(spec)
        self._next = build(tokenizer_spec.without_leading_space(text_spec)) if self._leads else self._first
        self._after_special = self._first if tokenizer_spec.leads_every_piece(spec) else self._next
        self.joins_pairs = merges_in_known_pieces(text_spec)
        self.takes_whole_pieces = bool(spec["model"].get("ignore_merges"))
        self.added = tuple(token["content"] for token in text_spec["added_tokens"])
        self._control_tokens = {t["content"]: t for t in spec.get("added_tokens", ()) if t["content"] in control}
        self._control_pattern = _pattern(self._control_tokens.values())
        around = self._around()
        self.prefix_ids = self._chosen(around[0], files.adds_bos, self.bos_id)
        self.suffix_ids = self._chosen(around[1], files.adds_eos, control.get(files.special.get("eos_token", "")))

    @cached_property
    def fingerprint(self) -> str:
        """Equal where all texts become the same tokens."""
        specials = sorted(self.special.items()), sorted(self.special_texts.items())
        parts = self._first.to_str(), self._next.to_str(), *specials, self.prefix_ids, self.suffix_ids
        return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Tokens of text that begins a sequence, without bos."""
        return _ids(self._first, text)

    def encode_continuation(self, text: str) -> list[int]:
        """Tokens of text that follows other tokens: no space is put before it."""
        return _ids(self._next, text)

    def begins_piece(self, text: str) -> bool:
        """Whether the last character of text that follows other tokens begins one of the pieces it is split into."""
        if self._next.pre_tokenizer is None:
            return False
        _, (start, end) = self._next.pre_tokenizer.pre_tokenize_str(text)[-1]
        return bool(end - start == 1)

    def encode_prompt(self, text: str) -> list[int]:
        """Tokens of a plain prompt: what the model expects to begin with (bos, or nothing), then the text."""
        return self._begun(self.encode(text))

    def encode_trusted_prompt(self, text: str) -> list[int]:
        """The same for a prompt in which special tokens are written out, the one it begins with perhaps among them."""
        return self._begun(self.encode_template(text))

    def _begun(self, tokens: list[int]) -> list[int]:
        """An empty text begins with bos whatever the model expects, if it has one: it can follow nothing else."""
        prefix = list(self.prefix_ids)
        begun = tokens if prefix and tokens[: len(prefix)] == prefix else [*prefix, *tokens]
        return begun if begun or self.bos_id is None else [self.bos_id]

    def encode_template(self, text: str) -> list[int]:
        """Tokens of trusted text in which special tokens are written out."""
        return self.encode_pieces(self.split_special(text))

    def encode_more_template(self, text: str) -> list[int]:
        """The same for text that follows other tokens."""
        return self.encode_more_pieces(self.split_special(text))

    def encode_pieces(self, pieces: Iterable[str | int]) -> list[int]:
        """Tokens of runs of text and special tokens (as ids); two runs in a row are never merged into one."""
        return self._encode_pieces(pieces, self._first)

    def encode_more_pieces(self, pieces: Iterable[str | int]) -> list[int]:
        """The same for pieces that follow other tokens."""
        return self._encode_pieces(pieces, self._next)

    def _encode_pieces(self, pieces: Iterable[str | int], encoder: tokenizers.Tokenizer) -> list[int]:
        ids: list[int] = []
        for piece in pieces:
            if isinstance(piece, int):
                ids.append(piece)
                encoder = self._after_special
            elif piece:
                ids += _ids(encoder, piece)
                encoder = self._next
        return ids

    def split_special(self, text: str, spans: Iterable[tuple[int, int]] | None = None) -> Iterator[str | int]:
        """The runs of text between special tokens, and these as ids; with spans, only of tokens that lie in these."""
        position = 0
        for begin, end in [(0, len(text))] if spans is None else spans:
            at = max(begin, position)
            while found := self._control_pattern.search(text, at, end):
                added = self._control_tokens[found[0]]
                at = found.end()
                if added.get("single_word") and WORD.match(text, at):
                    continue
                first = _skipped_back(text, position, found.start()) if added.get("lstrip") else found.start()
                yield text[position:first]
                yield self.special[found[0]]
                position = at = _skipped(text, at) if added.get("rstrip") else at
        yield text[position:]

    def token_bytes(self, token: int) -> bytes | None:
        """The exact bytes a token stands for; None for a special token and for an id without a token."""
        return self._bytes[token]

    def vocabulary(self) -> tuple[bytes | None, ...]:
        """`token_bytes` of every id below `vocab_size`."""
        return tuple(self._bytes)

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of a whole sequence; bytes that are no UTF-8 become U+FFFD. Special tokens are left out, or written
        by their names if asked for."""
        names = self.special_names if special else {}
        text = b"".join(self._bytes[token] or names.get(token, "").encode() for token in ids).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._leads else text

    def detokenizer(self) -> Detokenizer:
        """For the text of a continuation, token by token."""
        return Detokenizer(self)

    def _around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the spec's post-processor puts before a text and behind it."""
        alone = self._first.encode("a", add_special_tokens=False).ids
        whole = self._first.encode("a", add_special_tokens=True).ids
        starts = (i for i in range(len(whole)) if whole[i : i + len(alone)] == alone)
        start = next(starts, 0)
        return tuple(whole[:start]), tuple(whole[start + len(alone) :])

    @staticmethod
    def _chosen(of_spec: tuple[int, ...], adds: bool | None, token: int | None) -> tuple[int, ...]:
        if adds is None:
            return of_spec
        return (token,) if adds and token is not None else ()


class Detokenizer:
    """Text of tokens as they come: a character that is split over tokens waits until it is whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that is complete now, perhaps none."""
        return self._decoder.decode(self._tokenizer.token_bytes(token) or b"")

    def flush(self) -> str:
        """What is still held back, as U+FFFD; the detokenizer is as new afterwards."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


def _ids(encoder: tokenizers.Tokenizer, text: str) -> list[int]:
    """Tokens of text. Raises InvalidRequest for half a character: only Python can write one, and no token has it."""
    try:
        return list(encoder.encode(text, add_special_tokens=False).ids)
    except TypeError as error:
        raise InvalidRequest(f"this is no text of whole characters: {reprlib.repr(text)}", "prompt") from error


def _pattern(added: Iterable[Mapping[str, Any]]) -> re.Pattern[str]:
    """Any of these tokens, the longest first."""
    longest_first = sorted(added, key=lambda token: len(token["content"]), reverse=True)
    return re.compile("|".join(_token_pattern(token) for token in longest_first) or "(?!)")


def _token_pattern(token: Mapping[str, Any]) -> str:
    escaped = re.escape(str(token["content"]))
    return rf"(?<!\w){escaped}(?!\w)" if token.get("single_word") else escaped


def _skipped(text: str, position: int) -> int:
    """Behind the white space at a position."""
    return len(text) - len(text[position:].lstrip())


def _skipped_back(text: str, first: int, position: int) -> int:
    """Before the white space that ends at a position, no further than `first`."""
    return first + len(text[first:position].rstrip())
