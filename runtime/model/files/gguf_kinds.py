"""Of which kind each value of a GGUF file's metadata is that is read whatever the model's family: another is no value
of that key, and is refused by its name, as llama.cpp does. What families read is checked as they read it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from stemma.runtime.errors import ModelFileError


class Kind(NamedTuple):
    """Python's type, of the value or of all in it, and what it is called."""

    type: type
    is_list: bool
    name: str


TEXT, WHOLE, SWITCH = Kind(str, False, "text"), Kind(int, False, "whole number"), Kind(bool, False, "true or false")
TEXTS, WHOLES, NUMBERS = Kind(str, True, "list of texts"), Kind(int, True, "list of whole numbers"), Kind(
    float, True, "list of numbers"
)  # fmt: skip
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        **dict.fromkeys(("general.architecture", "general.type", "general.name", "tokenizer.chat_template",
                         "tokenizer.chat_template.tool_use", "tokenizer.ggml.model", "tokenizer.ggml.pre"), TEXT),
        **dict.fromkeys(("general.alignment", "split.no", "split.count", "split.tensors.count"), WHOLE),
        **dict.fromkeys(("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token",
                         "tokenizer.ggml.add_space_prefix"), SWITCH),
        "tokenizer.ggml.tokens": TEXTS,
        "tokenizer.ggml.merges": TEXTS,
        "tokenizer.ggml.token_type": WHOLES,
        "tokenizer.ggml.scores": NUMBERS,
    }
)  # fmt: skip
TOKEN = ("tokenizer.ggml.", "_token_id")
"""What keys begin and end with whose value is a token."""


def check_kinds(metadata: Mapping[str, Any]) -> None:
    """Raises ModelFileError for a value of another kind than its key has."""
    for key, value in metadata.items():
        is_token = key.startswith(TOKEN[0]) and key.endswith(TOKEN[1])
        kind = WHOLE if is_token else KINDS.get(key)
        if kind is not None and not _is(value, kind):
            said = repr(value)
            said = said if len(said) < 80 else f"{said[:80]}..."
            raise ModelFileError(f"{key} of the GGUF file is {said}, no {kind.name}; fetch or convert the model again")


def _is(value: Any, kind: Kind) -> bool:
    if kind.is_list:  # of a file, so all in it are of one type
        return isinstance(value, list) and (not value or type(value[0]) is kind.type)
    return type(value) is kind.type
