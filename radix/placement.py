"""Where a request is to leave marks. Decides by positions alone; knows nothing of room, tokens or the tree."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

NEAREST = 64  # tokens before the end of a prompt at which the doubling distances begin


class PathMarks(NamedTuple):
    """What is known of a query's path. hit_len: where it goes on; match_len: how far it matches; prompt_len: its end.

    marks: positions of the marks at or below match_len, ascending. branches: ends of nodes there, ascending.
    """

    hit_len: int
    match_len: int
    prompt_len: int
    marks: Sequence[int]
    branches: Sequence[int]


def wanted_marks(path: PathMarks, marks_at: Iterable[int]) -> list[int]:
    """Positions behind hit_len, ascending: the junction where the match ends without a mark, distances before the
    prompt's end that double (where a document ends and its question begins is not known at the first visit), the last
    token but one (the same prompt again), and what the caller asks for."""
    hit_len, match_len, prompt_len, _, _ = path
    wanted = {at for at in marks_at if at > hit_len}
    if match_len > hit_len:
        wanted.add(match_len)
    if prompt_len - 1 > hit_len:
        wanted.add(prompt_len - 1)
    distance = NEAREST
    while prompt_len - distance > match_len:
        wanted.add(prompt_len - distance)
        distance *= 2
    return sorted(wanted)
