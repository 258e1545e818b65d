"""Marks that tell what messages say from what a chat template writes: put into the messages before the template is
rendered, found again in its output. Knows nothing of templates or tokens' ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

CANDIDATES = range(0xF0000, 0xFFFFE)  # a private use plane: no text that means something holds these


class Marks(NamedTuple):
    """Four characters that occur nowhere in the chat."""

    inside: str  # breaks a special token that a message wrote
    opening: str  # stands before such a token where it must stay whole for the template to find it
    closing: str  # or behind it
    boundary: str  # where one run of text ends and another, encoded apart, begins


def absent_marks(texts: Iterable[str]) -> Marks:
    """Marks that are in none of these texts."""
    used = set().union(*texts)
    absent = (chr(code) for code in CANDIDATES if chr(code) not in used)
    return Marks(next(absent), next(absent), next(absent), next(absent))


def strings_in(value: Any) -> list[str]:
    """Every string in nested lists and mappings, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.items() for part in item for text in strings_in(part)]
    if isinstance(value, Sequence):
        return [text for part in value for text in strings_in(part)]
    return []


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """The same nested value with every string changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {map_strings(key, change): map_strings(part, change) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [map_strings(part, change) for part in value]
    return value


class Marker:
    """Puts marks into texts, for one set of special tokens.

    Besides whole tokens, every character that could begin one (mostly `<`) is marked in every way, so that a template
    which cuts something out of a text, or joins two, makes no token of the rest.
    """

    def __init__(self, special: Collection[str]) -> None:
        token = "|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)"
        firsts = sorted({token[0] for token in special if not (token[0].isalnum() or token[0].isspace())})
        self._token = token
        self._pattern = re.compile("|".join([f"(?P<token>{token})", *map(re.escape, firsts)]))
        self._endings = frozenset(token[size:] for token in special for size in range(1, len(token)))
        self._beginnings = frozenset(token[:size] for token in special for size in range(1, len(token)))
        self._longest = max(map(len, special), default=0)

    def needed(self, texts: Iterable[str]) -> bool:
        """Whether any of these texts could become a special token, alone or joined with what stands beside it."""
        return any(self._pattern.search(text) or self._joins_before(text) or self._joins_after(text) for text in texts)

    def inside(self, text: str, marks: Marks) -> str:
        """`<|im_end|>` -> `<#|im_end|>`: what a template does with whole texts it does as before."""
        return self._marked(text, lambda found: _broken(found[0], marks), marks)

    def beside(self, text: str, marks: Marks) -> str:
        """`<tool>1</tool>` -> `<tool>)1(</tool>`: a template finds the token, also at the start and at the end."""
        return self._marked(
            text, lambda found: marks.opening + found[0] if found.start() else found[0] + marks.closing, marks
        )

    def before(self, text: str, marks: Marks) -> str:
        """`</think>\\nyes` -> `(</think>\\nyes`: a template finds the token and the white space behind it."""
        return self._marked(text, lambda found: marks.opening + found[0], marks)

    def settle(self, rendered: str, marks: Marks) -> str:
        """Marks of every kind in a rendered text become marks inside: no special token of a message is whole."""
        token = self._token
        marked = re.compile(f"{marks.opening}(?P<behind>{token})|(?P<ahead>{token}){marks.closing}")
        broken = marked.sub(lambda found: _broken(found["behind"] or found["ahead"], marks), rendered)
        return broken.replace(marks.opening, marks.inside).replace(marks.closing, marks.inside)

    def _marked(self, text: str, mark: Callable[[re.Match[str]], str], marks: Marks) -> str:
        marked = self._pattern.sub(lambda found: mark(found) if found["token"] else _broken(found[0], marks), text)
        before = marks.inside if self._joins_before(text) else ""
        return before + marked + (marks.inside if self._joins_after(text) else "")

    def _joins_before(self, text: str) -> bool:
        return any(text[:size] in self._endings for size in range(1, min(len(text), self._longest) + 1))

    def _joins_after(self, text: str) -> bool:
        return any(text[-size:] in self._beginnings for size in range(1, min(len(text), self._longest) + 1))


def _broken(token: str, marks: Marks) -> str:
    return token[0] + marks.inside + token[1:]
