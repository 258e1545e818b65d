"""What in a program's prompts keeps them from being shared, told from the texts alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

MIN_LOST = 160
"""Characters of text that could have been shared; with fewer, nothing is said."""

TIMES = re.compile(
    r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?|\b\d{1,2}:\d{2}:\d{2}\b|\b\d{1,2}[./]\d{1,2}[./]\d{4}\b"
    r"|\b(?:January|February|March|April|May|June|July|August|September|October|November|December) \d{1,2}(?:, \d{4})?"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)


class Lint(NamedTuple):
    """A remark. rule: its name; message: what is wrong and what to do."""

    rule: str
    message: str


def lint_parameters(prompts: Sequence[str], parameters: dict[str, str]) -> list[Lint]:
    """A parameter's text before text that is the same for every input. parameters: their texts by name."""
    found: dict[str, int] = {}
    for prompt in prompts:
        for name, text in parameters.items():
            at = prompt.find(text)
            if at >= 0:
                found[name] = max(found.get(name, 0), _longest_constant(prompt[at + len(text) :], parameters))
    return [
        Lint("parameter-before-shared",
             f"the parameter {name!r} stands before {lost} characters that are the same for every input, and that no "
             "two inputs can share there: say them before it")
        for name, lost in found.items() if lost >= MIN_LOST
    ]  # fmt: skip


def lint_times(prompts: Sequence[str], parameters: dict[str, str]) -> list[Lint]:
    """A date, a time or an identifier before text that every run would share."""
    lints: dict[str, Lint] = {}
    for prompt in prompts:
        for time in TIMES.finditer(prompt):
            lost = _longest_constant(prompt[time.end() :], parameters)
            is_given = any(time[0] in text for text in parameters.values())
            if lost >= MIN_LOST and not is_given:
                lints.setdefault(time[0], Lint(
                    "time-before-shared",
                    f"{time[0]!r} stands before {lost} characters; if it changes from run to run, these are computed "
                    "anew each time: say it behind them",
                ))  # fmt: skip
    return list(lints.values())


def lint_unsteady(prompts: Sequence[str], again: Sequence[str]) -> list[Lint]:
    """Text that differs between two dry runs with the same inputs."""
    for prompt, other in zip(prompts, again, strict=False):
        same = len(shared_prefix([prompt, other]))
        lost = len(prompt) - same
        if prompt != other and lost >= MIN_LOST:
            return [Lint(
                "unsteady",
                f"two dry runs with the same inputs differ at {prompt[same : same + 24]!r} (a time, a random "
                f"value, the order of a set?), {lost} characters before the end: say it behind what is the same",
            )]  # fmt: skip
    return []


def lint_spaces(prompts: Sequence[str]) -> list[Lint]:
    """Text that ends in a space where the model goes on."""
    ends = sorted({prompt[-24:] for prompt in prompts if prompt.endswith(" ")})
    return [
        Lint("space-before-gen",
             f"{end!r} ends in a space where the model goes on: most tokens begin with their own; leave it out")
        for end in ends
    ]  # fmt: skip


def lint_siblings(branches: Sequence[str]) -> list[Lint]:
    """Texts of branches that fork at one place and end alike."""
    shared = len(shared_prefix([branch[::-1] for branch in branches])) if len(branches) > 1 else 0
    if shared < MIN_LOST or any(shared == len(branch) for branch in branches):
        return []
    return [Lint(
        "branches-end-alike",
        f"{len(branches)} branches say the same {shared} characters behind what makes them differ: say these before "
        "the fork, and they are computed once",
    )]  # fmt: skip


def _longest_constant(text: str, parameters: dict[str, str]) -> int:
    """Characters of the longest piece of text between parameters."""
    pattern = "|".join(re.escape(value) for value in parameters.values() if value) or "(?!)"
    return max(len(piece.strip()) for piece in re.split(pattern, text))


def shared_prefix(texts: Sequence[str]) -> str:
    """What all of these texts begin with."""
    low, high = min(texts), max(texts)
    size = next((at for at, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))
    return low[:size]
