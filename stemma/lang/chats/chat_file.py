"""A chat as a JSON file: messages for people, token ids for the cache. Knows nothing of engines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stemma.lang.states.transcript import Message, Transcript
from stemma.lang.values.tools import Tool
from stemma.runtime.errors import StateError
from stemma.runtime.model import Tokenizer

FORMAT = "stemma-chat-1"


class SavedTurn(NamedTuple):
    """A turn, and where in the chat's transcript it began: counts of messages, tokens, and characters covered."""

    question: str
    answer: str
    num_messages: int
    num_tokens: int
    covered: int


@dataclass(frozen=True, slots=True)
class SavedChat:
    """A transcript and its turns. Each turn began with a prefix of the transcript."""

    transcript: Transcript
    turns: list[SavedTurn]

    def before(self, turn: SavedTurn) -> Transcript:
        """The transcript when a turn began."""
        answer = turn.num_messages - 1 if turn.num_tokens else None
        whole = self.transcript
        messages, base = whole.messages[: turn.num_messages], whole.base[: turn.num_tokens]
        return Transcript(messages, base, answer, turn.covered, whole.tools)


def write_chat(path: Path, chat: SavedChat, tokenizer: Tokenizer) -> None:
    """Write it in one step: the file holds the old chat or the new one."""
    transcript = chat.transcript
    value = {
        "format": FORMAT,
        "tokenizer": fingerprint(tokenizer),
        "messages": [message.value for message in transcript.messages],
        "tools": [tool.told for tool in transcript.tools],
        "tokens": list(transcript.base),
        "answer": transcript.answer,
        "covered": transcript.covered,
        "turns": [turn._asdict() for turn in chat.turns],
    }
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    beside.replace(path)


def read_chat(path: Path, tokenizer: Tokenizer, tools: tuple[Tool, ...]) -> SavedChat:
    """Raises StateError for a file that is no chat, or one of another tokenizer, or with other tools."""
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        is_chat = value["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path} is not a chat that save() wrote") from error
    if not is_chat:
        raise StateError(f"{path} is a chat of another version: {value['format']!r}")
    if value["tokenizer"] != fingerprint(tokenizer):
        raise StateError(
            f"{path} was saved with another tokenizer, its token ids mean nothing here: "
            'take its texts, Chat.of_messages(llm, json.load(file)["messages"])'
        )
    if value.get("tools", []) != [tool.told for tool in tools]:
        names = [tool["function"]["name"] for tool in value.get("tools", [])]
        raise StateError(f"{path} was saved with other tools: give the same again, {names}")
    try:
        messages = tuple(map(Message.of, value["messages"]))
        transcript = Transcript(messages, tuple(value["tokens"]), value["answer"], value["covered"], tools)
        return SavedChat(transcript, [SavedTurn(**turn) for turn in value["turns"]])
    except (KeyError, TypeError) as error:
        raise StateError(f"{path} is damaged: {error}") from error


def fingerprint(tokenizer: Tokenizer) -> str:
    """The same for tokenizers whose ids mean the same."""
    digest = hashlib.sha256()
    for data in tokenizer.vocabulary():
        digest.update(b"-" if data is None else b"%d:%b" % (len(data), data))
    for text, token in sorted(tokenizer.special.items()):
        digest.update(f"{token}={text}".encode())
    return digest.hexdigest()
