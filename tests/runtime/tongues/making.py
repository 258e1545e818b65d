"""A byte tokenizer with the marks of the templates, and tongues on it."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from stemma.fsm import CompiledGrammar, Matcher, compile
from stemma.fsm.json_schema import JSONSchema
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.engine.grammars import make_vocabulary
from stemma.runtime.model import ChatTemplate, Tokenizer
from stemma.runtime.model.checkpoint import Checkpoint, TokenizerFiles
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from stemma.runtime.tongues.answer_grammar import AnswerGrammar
from stemma.runtime.tongues.functions import Function
from stemma.runtime.tongues.parser import AnswerParser
from stemma.runtime.tongues.pieces import Answer
from stemma.runtime.tongues.recognise import recognise
from stemma.runtime.tongues.tongue import Standing, Tongue
from tests.runtime.tongues.templates import TOKENS

FIRST = 260
FREE = frozenset(b"abcdefgh")
PLAIN = frozenset(range(32, 127)) | {10}
NESTED = {
    "type": "object",
    "properties": {"a": {"type": "boolean"}, "b": {"type": "array", "items": {"type": "string"}}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}, "deep": NESTED},
        "required": ["city"],
        "additionalProperties": False,
    },
    "get": {"type": "object", "properties": {}, "additionalProperties": False},
    "go_now": {
        "type": "object",
        "properties": {"on": {"type": "boolean"}, "why": {"type": "string", "enum": ["a b", "c"]},
                       "n": {"type": ["null", "integer"], "minimum": 1}},
        "required": ["on", "why", "n"],
        "additionalProperties": False,
    },
}  # fmt: skip
FUNCTIONS = tuple(Function(name, JSONSchema(schema)) for name, schema in SCHEMAS.items())


def files_of(source: str) -> TokenizerFiles:
    """The files of the tokenizer, with a chat template."""
    return replace(byte_tokenizer(*TOKENS), chat_template=source)


@contextmanager
def speaking(source: str, kv_tokens: int = 8192) -> Iterator[Engine]:
    """A tiny model with this chat template, whose cache lends nothing in the end."""
    config = tiny_config("llama", tokenizer().vocab_size)
    checkpoint = Checkpoint(config, tiny_tensors(config, 0), files_of(source), GenerationDefaults((256,)))
    with Engine.of(assemble(checkpoint, ReferenceOps(torch.device("cpu"))), kv_tokens=kv_tokens) as made:
        yield made
        assert made.stats().cache.leased == 0


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(files_of(""), FIRST + len(TOKENS))


@cache
def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, tokenizer())


@cache
def tongue(source: str) -> Tongue:
    return recognise(template(source), tokenizer(), [tokenizer().special["<|end|>"]])


@cache
def compiled(grammar: AnswerGrammar) -> CompiledGrammar:
    return compile(grammar, make_vocabulary(tokenizer(), [tokenizer().special["<|end|>"]]))


def matcher(grammar: AnswerGrammar) -> Matcher:
    return Matcher(compiled(grammar))


def calls_grammar(found: Tongue, **fields: Any) -> AnswerGrammar:
    return AnswerGrammar(found, FUNCTIONS, 1 if found.calls.again is None else 4, **fields)


def tokens(text: str) -> list[int]:
    return tokenizer().encode_template(text)


def shown(ids: Sequence[int], of: Tokenizer | None = None) -> str:
    """The text of tokens, special ones by their names."""
    of = of or tokenizer()
    names = of.special_names
    return b"".join(names[i].encode() if i in names else of.token_bytes(i) or b"" for i in ids).decode()


def walk(place: Matcher, of: Tokenizer, chance: random.Random, without: Collection[int] = ()) -> list[int]:
    """Tokens that a grammar allows: few letters where any text may stand, everything printable elsewhere."""
    made: list[int] = []
    row = np.zeros((of.vocab_size + 31) // 32, np.uint32)
    for step in range(1000):
        if place.is_finished or (place.is_complete and chance.random() < 0.5):
            return made
        place.mask_into(row)
        allowed = [token for token in range(of.vocab_size) if row[token >> 5] >> (token & 31) & 1]
        letters = FREE if len(allowed) > 60 else PLAIN
        usable = [token for token in allowed if token not in without and (token >= FIRST or token in letters)]
        if step > 150 or not usable:
            rest = place.shortest_completion()
            assert rest is not None, "a grammar that cannot be completed"
            return [*made, *rest]
        made.append(chance.choice(usable))
        assert place.advance(made[-1])
    raise AssertionError("the walk has no end")


def accepts(grammar: AnswerGrammar, text: str) -> bool:
    walk = matcher(grammar)
    return all(walk.advance(token) for token in tokens(text)) and walk.is_complete


def parsed(
    found: Tongue, pieces: list[str], standing: Standing = "answering", functions: tuple[Function, ...] = FUNCTIONS,
    **options: Any,
) -> Answer:  # fmt: skip
    parser, answer = AnswerParser(found, functions, 4, standing, **options), Answer()
    for piece in [made for text in pieces for made in parser.push(text)] + parser.finish():
        answer.add(piece)
    return answer


def said(answer: Answer) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in answer.calls]
