"""Reading and changing the contents of a `tokenizer.json`. Pure functions over its dictionaries, none is changed in
place; the format is that of Hugging Face's tokenizers library."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.text.byte_alphabet import char_of_byte

Spec = Mapping[str, Any]
SPACE = "\u2581"
UNREACHABLE = "\ufdd0"
NEVER = -1e9
TAG = re.compile(r"[<\[{|].+[>\]}|]")
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def parts(spec: Spec, role: str) -> list[Spec]:
    """The steps of a role (normalizer, pre_tokenizer, decoder), sequences flattened."""
    return list(_flatten(spec.get(role)))


def _flatten(step: Spec | None) -> Iterator[Spec]:
    if step is None:
        return
    if step["type"] == "Sequence":
        inner = step.get("normalizers") or step.get("pretokenizers") or step.get("decoders") or ()
        for part in inner:
            yield from _flatten(part)
    else:
        yield step


def control_tokens(spec: Spec, template: str) -> dict[str, int]:
    """Added tokens that text must not turn into: the special ones, and tags that the chat template writes itself."""
    return {
        token["content"]: token["id"]
        for token in spec.get("added_tokens", ())
        if token["special"] or (TAG.fullmatch(token["content"]) and token["content"] in template)
    }


def for_text(spec: Spec, control: Collection[str]) -> dict[str, Any]:
    """The tokenizer that never makes a control token: they are not matched, and cannot be merged from pieces.

    The other added tokens get a place in the model's vocabulary: the library counts ids from its end.
    """
    added = [token for token in spec.get("added_tokens", ()) if token["content"] not in control]
    places = {token["id"]: token["content"] for token in added}
    without = {"BPE": _bpe_without, "Unigram": _unigram_without}.get(spec["model"]["type"])
    if without is None:
        raise UnsupportedModel(f"tokenizers of type {spec['model']['type']} are not supported; supported: BPE, Unigram")
    return {**spec, "added_tokens": added, "model": without(spec["model"], frozenset(control), places)}


def _bpe_without(model: Spec, control: frozenset[str], places: Mapping[int, str]) -> dict[str, Any]:
    dropped = control - {model.get("unk_token")}
    vocabulary = dict(model["vocab"])
    for token in dropped & vocabulary.keys():
        vocabulary[UNREACHABLE + token] = vocabulary.pop(token)
    vocabulary |= {token: i for i, token in places.items()}
    pairs = (merge.split(" ", 1) for merge in model["merges"]) if spells_merges(model) else model["merges"]
    merges = [
        merge
        for merge, (left, right) in zip(model["merges"], pairs, strict=True)
        if left not in dropped and right not in dropped and left + right not in dropped
    ]
    return {**model, "vocab": vocabulary, "merges": merges}


def _unigram_without(model: Spec, control: frozenset[str], places: Mapping[int, str]) -> dict[str, Any]:
    pieces = [
        [UNREACHABLE + piece if piece in control and i != model.get("unk_id") else piece, score]
        for i, (piece, score) in enumerate(model["vocab"])
    ]
    for i in range(len(pieces), max(places, default=-1) + 1):
        pieces.append([places.get(i, f"{UNREACHABLE}{i}"), NEVER])
    return {**model, "vocab": pieces}


def spells_merges(model: Spec) -> bool:
    """Whether merges are spelled in the older way: all as `"a b"`, not as `["a", "b"]`."""
    return isinstance(next(iter(model["merges"]), None), str)


def adds_leading_space(spec: Spec) -> bool:
    """Whether text gets a space before its first word."""
    return any(step["type"] == "Prepend" for step in parts(spec, "normalizer")) or any(
        _leading(step) != "never" for step in parts(spec, "pre_tokenizer")
    )


def leads_every_piece(spec: Spec) -> bool:
    """Whether that space also comes after each special token (older conversions of SentencePiece models)."""
    return any(step["type"] == "Prepend" for step in parts(spec, "normalizer")) or any(
        _leading(step) == "always" for step in parts(spec, "pre_tokenizer")
    )


def _leading(step: Spec) -> str:
    """When a step puts a space before text: "always", "first" or "never". Metaspace says it in two ways, of which the
    older is a switch, and one that says nothing always does."""
    if step["type"] == "ByteLevel":
        return "always" if step.get("add_prefix_space", True) else "never"
    if step["type"] != "Metaspace":
        return "never"
    scheme = str(step.get("prepend_scheme", "always"))
    return scheme if step.get("add_prefix_space", True) else "never"


def without_leading_space(spec: Spec) -> dict[str, Any]:
    """The same tokenizer for text that follows other text."""
    normalizers = [step for step in parts(spec, "normalizer") if step["type"] != "Prepend"]
    pre_tokenizers = [_never_prepending(step) for step in parts(spec, "pre_tokenizer")]
    return {
        **spec,
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizers} if pre_tokenizers else None,
    }


def _never_prepending(step: Spec) -> dict[str, Any]:
    if step["type"] == "Metaspace":
        kept = {key: value for key, value in step.items() if key != "add_prefix_space"}
        return {**kept, "prepend_scheme": "never"}
    return {**step, "add_prefix_space": False} if step["type"] == "ByteLevel" else dict(step)


def vocabulary_bytes(spec: Spec, size: int) -> list[bytes | None]:
    """The exact bytes of each of `size` tokens; None for special tokens and for ids without a token.

    Raises UnsupportedModel for a tokenizer whose tokens do not stand for fixed bytes.
    """
    model = spec["model"]
    tokens, places = list(model["vocab"]), list(model["vocab"].values()) if model["type"] == "BPE" else None
    if places is None:
        tokens, places = [piece for piece, _ in tokens], list(range(len(tokens)))
    decoders = {step["type"] for step in parts(spec, "decoder")}
    if "ByteLevel" in decoders:
        all_bytes, of_added = _byte_level_bytes(tokens), _written_bytes
    elif decoders & {"ByteFallback", "Metaspace"}:
        all_bytes, of_added = (
            map(_sentencepiece_bytes, tokens),
            _sentencepiece_bytes,
        )  # Gemma's added runs of spaces too
    else:
        raise UnsupportedModel(f"tokenizers with the decoder {sorted(decoders)} are not supported")
    table: list[bytes | None] = [None] * size
    for index, spelled in zip(places, all_bytes, strict=True):
        if index < size:
            table[index] = spelled
    for added in spec.get("added_tokens", ()):
        if added["id"] < size:
            table[added["id"]] = None if added["special"] else of_added(added["content"])
    return table


def _byte_level_bytes(tokens: Sequence[str]) -> Iterator[bytes]:
    """All tokens at once: one at a time, most of the time goes into making iterators."""
    alphabet = char_of_byte()
    strange = set("".join(tokens)).difference(alphabet)
    encoded, _ = codecs.charmap_encode("".join(tokens), "replace", codecs.charmap_build("".join(alphabet)))
    end = 0
    for token in tokens:
        start, end = end, end + len(token)
        yield encoded[start:end] if not strange or strange.isdisjoint(token) else token.encode()


def _written_bytes(token: str) -> bytes:
    return token.encode()


def _sentencepiece_bytes(token: str) -> bytes:
    found = BYTE_TOKEN.fullmatch(token)
    return bytes([int(found[1], 16)]) if found else token.replace(SPACE, " ").encode()
