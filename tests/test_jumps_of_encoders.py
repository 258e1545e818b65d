"""Hard tokens under encoders of every kind: random merges, random splits, tokens that no merges make, added tokens.

Whatever is generated after a forced token, encoding the whole output again must give the same token there.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.fsm import Vocabulary, compile
from stemma.fsm.syntax import ast
from stemma.runtime.engine.grammars import make_vocabulary
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.text.byte_alphabet import char_of_byte
from stemma.runtime.model.text.pair_merging import merges_in_known_pieces
from stemma.runtime.model.text.splits import DIGITS, GPT2, LLAMA3, QWEN2, TEKKEN
from stemma.runtime.model.text.tokenizer import Tokenizer
from stemma.runtime.model.text.tokenizer_spec import SPACE
from tests.fsm.jumping import generate, places

ALPHABET = 'aabsl11-"":{, \'\n\\é'
TEXTS = (
    '{"', '"a":', "1", "-", '"', "ab", "'s", "'l", "l", " ", "  ", "\n", "s", "a", "é", "\\", "-1", '":"', ",", "<b>",
    "<b", "11",
)  # fmt: skip
SPLITS = {
    "SentencePiece": None,
    "unsplit": (),
    "GPT-2": (GPT2,),
    "single digits": (DIGITS, GPT2),
    "Llama 3": (LLAMA3,),
    "Qwen 2": (QWEN2,),
    "Tekken": (TEKKEN,),
}
END = "<end>"


def merged(draw: random.Random, single: list[str], count: int) -> tuple[list[str], list[list[str]]]:
    """What random pairs of `single` and of each other make, and the merges that make it."""
    tokens: list[str] = []
    merges: list[list[str]] = []
    known = list(single)
    while len(merges) < count:
        left, right = draw.choice(known), draw.choice(known)
        if left + right not in tokens and len(left + right) <= 6:
            tokens.append(left + right)
            merges.append([left, right])
            known += [left + right] * 2
    return tokens, merges


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def byte_level_parts(draw: random.Random, splits: tuple[str, ...], takes_whole: bool) -> dict[str, Any]:
    """Byte-level: pairs of bytes. Some merges are forgotten: some tokens are only made where whole pieces are taken."""
    table = char_of_byte()
    single = [table[byte] for char in ALPHABET for byte in char.encode()]
    tokens, merges = merged(draw, single, draw.choice((10, 40, 120)))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*map(split, splits), byte_level]},
        "decoder": byte_level,
        "model": {
            "type": "BPE", "vocab": {token: index for index, token in enumerate([*table, *tokens])},
            "merges": [merge for merge in merges if draw.random() < 0.8], "ignore_merges": takes_whole,
        },
    }  # fmt: skip


def sentencepiece_parts(draw: random.Random) -> dict[str, Any]:
    """SentencePiece's pairs of characters: nothing is split, what has no token is bytes."""
    single = list(dict.fromkeys(ALPHABET.replace(" ", SPACE)))
    tokens, merges = merged(draw, single, draw.choice((10, 40, 120)))
    all_tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *single, *tokens]
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    return {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "vocab": {token: index for index, token in enumerate(all_tokens)}, "merges": merges,
            "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>",
        },
    }  # fmt: skip


@functools.cache
def encoder(kind: str, takes_whole: bool, seed: int) -> Vocabulary:
    """A tokenizer as the runtime reads it; of some `<b>` is an added token."""
    draw = random.Random(f"{kind} {takes_whole} {seed}")
    splits = SPLITS[kind]
    specs = sentencepiece_parts(draw) if splits is None else byte_level_parts(draw, splits, takes_whole)
    size = len(specs["model"]["vocab"])
    contents = [END, "<b>"] if seed % 3 == 0 else [END]
    added = [
        {"id": size + index, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": text == END}
        for index, text in enumerate(contents)
    ]  # fmt: skip
    spec = {"version": "1.0", "added_tokens": added, "post_processor": None, **specs}
    assert merges_in_known_pieces(spec)
    tokenizer = Tokenizer(TokenizerFiles(spec, {}, False, None), size + len(added))
    return make_vocabulary(tokenizer, [tokenizer.special[END]])


def no_rules(name: object) -> ast.Node:
    raise AssertionError(name)


def literal(text: str) -> ast.Node:
    return ast.Literal(text.encode())


def nodes() -> st.SearchStrategy[ast.Node]:
    text = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=5).map("".join).map(literal)
    choice = st.lists(text, min_size=2, max_size=3).map(lambda found: ast.Choice(tuple(found)))
    inside = st.sampled_from([((97, 122),), ((48, 57),), ((45, 45), (48, 57)), ((32, 126),), ((0x20, 0x2FFF),)])
    many = st.builds(ast.Repeat, st.builds(ast.Characters, inside), st.integers(0, 2), st.sampled_from([2, 4, None]))
    foreign = st.sampled_from([("да", "нет"), ("大", "小"), ("été", "être"), ("👍", "👎"), ("é", "è")])
    parts = st.one_of(text, text, choice, many, foreign.map(lambda words: ast.Choice(tuple(map(literal, words)))))
    return st.lists(parts, min_size=2, max_size=6).map(lambda found: ast.Concatenation(tuple(found)))


@pytest.mark.parametrize("takes_whole", [False, True])
@pytest.mark.parametrize("kind", SPLITS)
@settings(max_examples=150, deadline=None)
@given(nodes(), st.integers(0, 25), st.integers(0, 1000))
def test_hard_tokens_are_what_the_whole_output_is_encoded_as(
    kind: str, takes_whole: bool, node: ast.Node, number: int, seed: int
) -> None:
    vocabulary = encoder(kind, takes_whole, number)
    assert vocabulary.pair_rules is not None
    text, certain = generate(compile(ast.Grammar(node, no_rules), vocabulary), random.Random(seed), 40)
    try:
        text.decode()
    except UnicodeDecodeError:
        return  # it was stopped inside a character
    canonical = places(vocabulary, text)
    for place, token in certain:
        assert canonical.get(place) == token, (text, place, vocabulary.token_bytes[token])
