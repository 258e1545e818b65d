"""Mistral's tokenizer file, tekken.json, as the contents of a `tokenizer.json`: bytes by rank, with the special tokens
before them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.files.folder_weights import read_json
from stemma.runtime.model.files.gguf_tokenizer import scored_merges
from stemma.runtime.model.text.building import added_token
from stemma.runtime.model.text.byte_alphabet import char_of_byte

BOS, EOS, UNKNOWN, PAD = "<s>", "</s>", "<unk>", "<pad>"
OLDER_SPECIAL_TOKENS = (
    UNKNOWN, BOS, EOS, "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", PAD, "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip
"""Of files that do not list them."""
SYSTEM_FIRST = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}[SYSTEM_PROMPT]{{ message.content }}[/SYSTEM_PROMPT]"
    "{% elif message.role == 'user' %}[INST]{{ message.content }}[/INST]"
    "{% elif message.role == 'assistant' %}{{ message.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('messages of role ' ~ message.role ~ ' need a chat template of their own') }}"
    "{% endif %}{% endfor %}"
)
SYSTEM_IN_THE_LAST = (
    "{{ bos_token }}{% set state = namespace(system='', last=-1) %}{% for message in messages %}"
    "{% if message.role == 'system' %}{% set state.system = state.system ~ message.content ~ '\n\n' %}"
    "{% elif message.role == 'user' %}{% set state.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}"
    "{% if message.role == 'user' %}[INST]{% if loop.index0 == state.last %}{{ state.system }}{% endif %}"
    "{{ message.content }}[/INST]"
    "{% elif message.role == 'assistant' %}{{ message.content }}{{ eos_token }}"
    "{% elif message.role != 'system' %}"
    "{{ raise_exception('messages of role ' ~ message.role ~ ' need a chat template of their own') }}"
    "{% endif %}{% endfor %}"
)
CHAT_FORMS: Mapping[str, str] = MappingProxyType(
    {"v3": SYSTEM_IN_THE_LAST, "v7": SYSTEM_FIRST, "v11": SYSTEM_FIRST, "v13": SYSTEM_FIRST}
)
"""How turns are written, by the file's version, as mistral-common writes them; another version has no chat template."""


def read_tekken(path: Path, template: str | None) -> TokenizerFiles:
    """template: the folder's own, which goes before what is known of the version. Raises ModelFileError for a damaged
    file, UnsupportedModel for one that is not tekken's."""
    content = read_json(path)
    try:
        config, entries = content["config"], content["vocab"]
        num_special, size = config["default_num_special_tokens"], config["default_vocab_size"]
        pieces = [base64.b64decode(entry["token_bytes"]) for entry in entries[: size - num_special]]
        special = _special_tokens(content.get("special_tokens"), num_special)
        pattern, version = config["pattern"], config.get("version", "")
    except (KeyError, TypeError, binascii.Error) as error:
        raise ModelFileError(f"{path} is damaged, or no tokenizer of Mistral's ({error!r}); fetch it again") from error
    spec = _spec(pieces, special, pattern)
    roles = {"bos_token": BOS, "eos_token": EOS, "unk_token": UNKNOWN, "pad_token": PAD}
    if missing := sorted({BOS, EOS} - set(special)):
        raise UnsupportedModel(f"{path} has no token {missing[0]}, with which every text of Mistral's begins or ends")
    chat = CHAT_FORMS.get(version) if template is None else template
    known = {role: token for role, token in roles.items() if token in special}
    return TokenizerFiles(spec, known, adds_bos=True, chat_template=chat)


def _special_tokens(listed: list[dict[str, Any]] | None, count: int) -> list[str]:
    """By their ids; those that the file only counts have names of their own."""
    if listed is None:
        named = dict(enumerate(OLDER_SPECIAL_TOKENS))
    else:
        named = {entry["rank"]: entry["token_str"] for entry in listed}
    return [named.get(index, f"<SPECIAL_{index}>") for index in range(count)]


def _spec(pieces: list[bytes], special: list[str], pattern: str) -> dict[str, Any]:
    table = char_of_byte()
    tokens = ["".join(table[byte] for byte in piece) for piece in pieces]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    vocabulary = {token: len(special) + rank for rank, token in enumerate(tokens)}
    added = [added_token(index, token, special=True) for index, token in enumerate(special)]
    merges = scored_merges(tokens, [-float(rank) for rank in range(len(tokens))])
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": dict(zip(special, range(len(special)), strict=True)) | vocabulary,
            "merges": merges,
            "ignore_merges": True,
        },
    }
