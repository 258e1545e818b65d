"""Where the grammar leaves a choice between signs of JSON, which one usually comes. Guesses only make draft tokens, as
the small model does in speculative decoding, or a text that is looked up.

A forced text mostly ends in such a choice, and its last token depends on it:

    {"tags":      next `[` or `n` of null: guessed `[`, drafted `":[`, and kept if the model samples the same

What is drafted is verified, so a guess need not be right; it has to be right often.
"""

from __future__ import annotations

from collections.abc import Collection

BEFORE_A_VALUE = frozenset(b":[{,")
VALUES = frozenset(b'"-0123456789[{tfn')
BEGINNINGS = b'"{['  # the likelier first: texts are more frequent than objects, these than lists
CLOSING = frozenset(b"}]")
COMMA = ord(",")
MORE_MEMBERS = frozenset(b",}")


def guessed_byte(last: int, following: Collection[int]) -> int | None:
    """Which of the bytes `following` usually comes behind the byte `last`; None if that is anybody's guess.

    Lists and objects are seldom empty, and where a member may follow in an object one mostly does. Numbers, words and
    what stands inside a text are not guessed.
    """
    if last in BEFORE_A_VALUE and VALUES.union(CLOSING).issuperset(following):
        return next((byte for byte in BEGINNINGS if byte in following), None)
    return COMMA if MORE_MEMBERS.issubset(following) and MORE_MEMBERS.issuperset(following) else None
