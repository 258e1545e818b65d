"""Grammars over the real model's 49k tokens: masks equal brute force, jumps are canonical, llguidance agrees.

`benchmarks/mask_check.py` runs the same checks for longer, over both vocabularies and other people's schemas.
"""

# ruff: noqa: E501 - the forms are a table, one row each

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import llguidance
import numpy as np
import numpy.typing as npt
import pytest

from stemma.fsm import CompiledGrammar, Matcher, Vocabulary, compile
from stemma.fsm.choices import Choices
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.matching.jump import WINDOW, forced_tokens
from stemma.fsm.regex import Regex
from stemma.fsm.structural_tags import StructuralTags, Tag
from stemma.runtime.engine.grammars import make_vocabulary
from stemma.runtime.model.files.gguf_format import open_gguf
from stemma.runtime.model.files.gguf_tokenizer import read_tokenizer
from stemma.runtime.model.pull import default_model
from stemma.runtime.model.text.tokenizer import Tokenizer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "mail": {"type": "string", "pattern": "^[a-z.]{1,20}@[a-z]{2,9}\\.(com|org)$"},
        "kind": {"enum": ["guest", "member", "staff"]},
    },
    "required": ["name", "kind"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": ["integer", "null"]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 3},
            },
            "required": ["value"],
            "additionalProperties": False,
        }
    },
}
SCHEMAS: dict[str, Any] = {
    "a person": PERSON,
    "a tree": TREE,
    "any object": {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}},
        "required": ["a"],
    },
    "a list of strings": {
        "type": "array",
        "items": {"type": "string", "minLength": 2, "maxLength": 12},
        "minItems": 1,
        "maxItems": 5,
    },
    "either": {"anyOf": [PERSON, {"type": "array", "items": PERSON, "maxItems": 2}, {"type": "null"}]},
    "a date": {
        "type": "object",
        "properties": {
            "on": {"type": "string", "format": "date"},
            "at": {"type": "integer", "minimum": -5, "maximum": 1000},
        },
        "required": ["on", "at"],
        "additionalProperties": False,
    },
}
FORMS: dict[str, Any] = {
    **{name: JSONSchema(schema) for name, schema in SCHEMAS.items()},
    "spaced": JSONSchema(PERSON, white_space="flexible", property_order="any"),
    "an excluded name": JSONSchema(
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}}
    ),
    "words": Regex(r"(\w+\s){0,20}\w+\."),
    "words in a length": JSONSchema({"type": "string", "pattern": r"^(?:\S+\s+){0,9}\S+$", "maxLength": 60}),
    "items in turns": JSONSchema(
        {
            "type": "array",
            "maxItems": 20,
            "items": {"type": "array", "items": {"type": "string", "pattern": r"^(?:\w+ ){2,7}\w+$"}, "maxItems": 9},
        }
    ),
    "long text": Regex(r"[^\n]{1,200}"),
    "an address": Regex(r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}"),
    "Chinese": Regex(r"[\u4e00-\u9fff]{2,8}(, [\u4e00-\u9fff]{2,8})*"),
    "not two": Regex(r"(?!.*(foo|bar))[a-z ]{3,40}"),
    "choices": Choices([f"choice {i * 7919 % 10007}" for i in range(2_000)]),
    "apostrophes": Regex(r"(it|he|we)'(s|ll|re|ve) ( |  \\n)?[a-z']{1,6}(-?\d{1,5}|'[a-z]+)\."),
    "signs": Regex(r'(\{"a":-?\d{1,6}\}|\("[a-z]*"\)|#[0-9a-f]{6}|abc( +|\s+x|\n)zz*|12(3|34|x)5*)+;'),
    "tool calls": StructuralTags((Tag("<tool>", JSONSchema(PERSON), "</tool>"),)),
}


class BruteForce:
    """Every token's bytes through the automaton, all tokens side by side; it knows nothing of how masks are made."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.lengths = np.array([len(data) for data in vocabulary.token_bytes])
        self.octets = np.zeros((vocabulary.size, max(self.lengths)), np.uint8)
        for token, data in enumerate(vocabulary.token_bytes):
            self.octets[token, : len(data)] = np.frombuffer(data, np.uint8)

    def allowed(self, grammar: CompiledGrammar, config: int) -> npt.NDArray[np.bool_]:
        automaton = grammar.automaton
        configs = np.where(self.lengths > 0, config, 0)
        for column in range(self.octets.shape[1]):
            reading = np.flatnonzero((configs > 0) & (self.lengths > column))
            if not len(reading):
                break
            for each in np.unique(configs[reading]).tolist():
                automaton.row(each)
            configs[reading] = automaton.tables.rows[configs[reading], self.octets[reading, column]]
        found = configs > 0
        if automaton.is_accepting(config):
            found[list(grammar.vocabulary.eos_ids)] = True
        return found


def unpacked(row: npt.NDArray[np.uint32], size: int) -> npt.NDArray[np.bool_]:
    return np.unpackbits(row.view(np.uint8), bitorder="little")[:size].astype(bool)


def chosen(draw: random.Random, allowed: npt.NDArray[np.bool_], vocabulary: Vocabulary) -> int:
    """A token, short ones more often than they are, so that walks get anywhere."""
    tokens = np.flatnonzero(allowed)
    some = [int(tokens[draw.randrange(len(tokens))]) for _ in range(draw.choice((1, 1, 40)))]
    return min(some, key=lambda token: len(vocabulary.token_bytes[token]))


def checked_masks(grammar: CompiledGrammar, brute: BruteForce, draw: random.Random, num_walks: int) -> int:
    """Random walks; at each new configuration the mask must be what brute force says. Returns how many were compared."""
    seen: set[int] = set()
    row = np.zeros(grammar.vocabulary.num_words, np.uint32)
    for _ in range(num_walks):
        matcher, config = Matcher(grammar), grammar.start
        for _ in range(60):
            matcher.mask_into(row)
            allowed = unpacked(row, grammar.vocabulary.size)
            if config not in seen:
                expected = brute.allowed(grammar, config)
                assert (allowed == expected).all(), (matcher.output, np.flatnonzero(allowed != expected)[:5])
                seen.add(config)
            token = chosen(draw, allowed, grammar.vocabulary)
            assert matcher.advance(token)
            if matcher.is_finished:
                break
            config = grammar.step(config, token)
    return len(seen)


def outputs(grammar: CompiledGrammar, draw: random.Random, num_tokens: int) -> tuple[bytes, list[tuple[int, int]]]:
    """A random output, ended in time, that takes every forced token; and the places and ids of those."""
    matcher = Matcher(grammar)
    row = np.zeros(grammar.vocabulary.num_words, np.uint32)
    certain: list[tuple[int, int]] = []
    while len(matcher.tokens) < num_tokens and not matcher.is_finished:
        for token in matcher.forced().tokens:
            certain.append((len(matcher.output), token))
            assert matcher.advance(token)
        if not matcher.is_finished:
            matcher.mask_into(row)
            assert matcher.advance(chosen(draw, unpacked(row, grammar.vocabulary.size), grammar.vocabulary))
    for token in matcher.shortest_completion(10_000) or []:
        assert matcher.advance(token)
    assert matcher.is_complete or matcher.is_finished
    return matcher.output, certain


@pytest.fixture(scope="module")
def gguf() -> Path:
    return default_model()


@pytest.fixture(scope="module")
def tokenizer(gguf: Path) -> Tokenizer:
    files = read_tokenizer(open_gguf(gguf).metadata)
    return Tokenizer(files, len(files.spec["model"]["vocab"]))


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    return make_vocabulary(tokenizer, [tokenizer.special["<|im_end|>"]])


@pytest.fixture(scope="module")
def brute(vocabulary: Vocabulary) -> BruteForce:
    return BruteForce(vocabulary)


@pytest.mark.parametrize("name", FORMS)
def test_masks_equal_brute_force(name: str, vocabulary: Vocabulary, brute: BruteForce) -> None:
    grammar = compile(FORMS[name], vocabulary)
    assert checked_masks(grammar, brute, random.Random(name), 8) > 1


@pytest.mark.parametrize("name", FORMS)
def test_hard_tokens_are_what_the_whole_output_is_encoded_as(name: str, vocabulary: Vocabulary) -> None:
    grammar, draw = compile(FORMS[name], vocabulary), random.Random(name)
    assert vocabulary.tokenize is not None
    for _ in range(6):
        output, certain = outputs(grammar, draw, 30)
        position, canonical = 0, {}
        for token in vocabulary.tokenize(output):
            canonical[position] = token
            position += len(vocabulary.token_bytes[token])
        assert [pair for pair in certain if canonical.get(pair[0], vocabulary.eos_ids[0]) != pair[1]] == []


def claimed(grammar: CompiledGrammar, draw: random.Random) -> tuple[bytes, list[tuple[int, int]]]:
    """A random output, a byte at a time, and the forced tokens that were named at any of its places."""
    text = bytearray()
    certain: list[tuple[int, int]] = []
    config = grammar.start
    while len(text) < 300:
        position = len(text)
        for token in forced_tokens(grammar, config, bytes(text[-WINDOW:]), position <= WINDOW).tokens:
            certain.append((position, token))
            position += len(grammar.vocabulary.token_bytes[token])
        following = grammar.next_bytes(config)
        if not following or (grammar.is_accepting(config) and draw.random() < 0.2):
            break
        usual = [byte for byte in following if byte in b" '\"\n-1a"] or [byte for byte in following if byte < 0x7F]
        text.append(draw.choice(usual if usual and draw.random() < 0.8 else following))
        config = grammar.after(config, bytes(text[-1:]))
    return bytes(text), certain


@pytest.mark.parametrize("name", [name for name in FORMS if name != "tool calls"])
def test_what_is_named_hard_at_any_byte_is_what_the_whole_output_is_encoded_as(
    name: str, vocabulary: Vocabulary
) -> None:
    grammar, draw = compile(FORMS[name], vocabulary), random.Random(name)
    assert vocabulary.tokenize is not None
    for _ in range(30):
        text, certain = claimed(grammar, draw)
        position, canonical = 0, {}
        for token in vocabulary.tokenize(text):
            canonical[position] = token
            position += len(vocabulary.token_bytes[token])
        if position == len(text):  # else it has bytes that this vocabulary lacks
            known = [pair for pair in certain if pair[0] + 12 < len(text)]  # its end may be anywhere
            assert [pair for pair in known if canonical.get(pair[0]) != pair[1]] == [], text


@pytest.fixture(scope="module")
def other(gguf: Path, tokenizer: Tokenizer) -> llguidance.LLTokenizer:
    return llguidance.LLTokenizer(
        json.dumps(read_tokenizer(open_gguf(gguf).metadata).spec), eos_token=tokenizer.special["<|im_end|>"]
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_llguidance_agrees(name: str, vocabulary: Vocabulary, other: llguidance.LLTokenizer) -> None:
    """What random walks of each engine write is accepted by the other."""
    compact = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
    theirs = llguidance.LLMatcher(
        other, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(SCHEMAS[name]), defaults=compact)
    )
    grammar, draw = compile(FORMS[name], vocabulary), random.Random(name)
    assert vocabulary.tokenize is not None
    for _ in range(8):
        output, _ = outputs(grammar, draw, 30)
        output = plainly(output)
        reader = theirs.deep_copy()
        assert reader.try_consume_tokens(vocabulary.tokenize(output)) == len(vocabulary.tokenize(output)), output
        assert reader.is_accepting(), output
    for _ in range(8):
        written = plainly(theirs_written(theirs.deep_copy(), vocabulary, draw))
        ours = Matcher(grammar)
        assert all(ours.advance(token) for token in vocabulary.tokenize(written)), written
        assert ours.is_complete, written


def plainly(output: bytes) -> bytes:
    """The same value in its usual spelling: engines may differ in `-0` and `\\u0061`; llguidance has no raw U+007F."""
    return json.dumps(json.loads(output), separators=(",", ":"), ensure_ascii=False).replace("\x7f", "x").encode()


def theirs_written(start: llguidance.LLMatcher, vocabulary: Vocabulary, draw: random.Random) -> bytes:
    """A random output of llguidance, which closes what it can after a while; one that goes on too long is begun anew."""
    row = np.zeros(vocabulary.num_words, np.int32)
    has_bytes = np.array(list(map(bool, vocabulary.token_bytes)))
    closing = [vocabulary.token_bytes.index(data) for data in (b"}", b"]", b'"')]
    while True:
        matcher, written = start.deep_copy(), b""
        for position in range(80):
            matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
            allowed = unpacked(row.view(np.uint32), vocabulary.size) & has_bytes
            if not allowed.any():
                break
            close = next((token for token in closing if allowed[token]), None) if position > 20 else None
            token = chosen(draw, allowed, vocabulary) if close is None else close
            assert matcher.try_consume_tokens([token]) == 1
            written += vocabulary.token_bytes[token]
        if matcher.is_accepting():
            return written
