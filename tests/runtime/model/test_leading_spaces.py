"""A space before text: when each kind of step puts one, at the start and behind special tokens, as for the library."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models

from stemma.runtime.model import Tokenizer
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.text.byte_alphabet import char_of_byte
from stemma.runtime.model.text.tokenizer_spec import Spec

METASPACE = {"type": "Metaspace", "replacement": "\u2581"}
BYTES = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
STEPS: dict[str, Spec] = {
    "older, on": {**METASPACE, "add_prefix_space": True},
    "nothing said": METASPACE,
    "always": {**METASPACE, "prepend_scheme": "always"},
    "first": {**METASPACE, "prepend_scheme": "first", "add_prefix_space": True},
    "never": {**METASPACE, "prepend_scheme": "never", "add_prefix_space": True},
    "bytes": {**BYTES, "add_prefix_space": True},
    "bytes, none": {**BYTES, "add_prefix_space": False},
    "in a sequence": {"type": "Sequence", "pretokenizers": [{**BYTES, "add_prefix_space": True}]},
}  # fmt: skip
SPACED = ("older, on", "nothing said", "always", "bytes", "in a sequence")


def spec_with(step: Spec) -> dict[str, Any]:
    """Single characters, or bytes, and one special token."""
    is_bytes = "ByteLevel" in json.dumps(step)
    tokens = ["<unk>", *(char_of_byte() if is_bytes else ["\u2581", *"abc <s>"])]
    model = models.BPE({token: index for index, token in enumerate(tokens)}, [], unk_token="<unk>")
    built = tokenizers.Tokenizer(model)
    built.decoder = decoders.ByteLevel() if is_bytes else decoders.Metaspace()
    built.add_special_tokens(["<s>"])
    return {**json.loads(built.to_str()), "pre_tokenizer": step}


@pytest.mark.parametrize("text", ["ab", "<s>ab", "a<s>b c<s>", "<s><s> a", " a<s>\u2581b", "", "<s>"])
@pytest.mark.parametrize("case", STEPS)
def test_spaces_before_text_are_those_of_the_library(case: str, text: str) -> None:
    spec = spec_with(STEPS[case])
    ours = Tokenizer(TokenizerFiles(spec, {}, None, None), 300)
    assert ours.encode_template(text) == tokenizers.Tokenizer.from_str(json.dumps(spec)).encode(text).ids


@pytest.mark.parametrize("case", STEPS)
def test_text_that_follows_other_text_gets_none(case: str) -> None:
    ours = Tokenizer(TokenizerFiles(spec_with(STEPS[case]), {}, None, None), 300)
    assert len(ours.encode_continuation("ab")) == 2
    assert len(ours.encode("ab")) == 2 + (case in (*SPACED, "first"))
    assert len(ours.encode_template("<s>ab")) == 3 + (case in SPACED)
    assert ours.decode(ours.encode("ab")) == "ab"
