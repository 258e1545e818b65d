"""What a prefix cache must say, by a look at everything that is in it: for the random worlds and the state machine.

A cell of KV, and the state after a token, is a hash of the tokens up to its position and of who may read each of them.
"""

from collections.abc import Sequence

from stemma.radix import (
    AllCleared,
    BlocksRemoved,
    BlocksStored,
    Event,
    MarkRoom,
    MarksStored,
    Namespace,
    Node,
    PrefixCache,
    Segments,
    namespace_of_node,
)
from stemma.radix.events import chain_hash, scope_key
from stemma.radix.tokens import TOKEN_BYTES, unpack


def cells_of(tokens: list[int], namespace: Namespace) -> list[int]:
    """What the cells of a text hold: for each position a hash of all tokens up to it and of who may read them."""
    cells, before = [], 0
    for position, token in enumerate(tokens):
        owner: object = namespace
        if isinstance(namespace, Segments) and position < namespace.public_len:
            owner = namespace.public
        before = hash((before, owner, token))
        cells.append(before)
    return cells


class Mirror:
    """A router's view: the hashes of the blocks and marks that are stored, by events alone."""

    def __init__(self) -> None:
        self.hashes: set[bytes] = set()
        self.marks: set[bytes] = set()

    def hear(self, event: Event) -> None:
        if isinstance(event, AllCleared):
            self.hashes.clear()
            self.marks.clear()
        elif isinstance(event, BlocksStored):
            assert event.parent == b"" or event.parent in self.hashes, "stored after a block that is not there"
            assert not self.hashes.intersection(event.hashes), "stored twice"
            self.hashes.update(event.hashes)
        elif isinstance(event, BlocksRemoved):
            assert self.hashes.issuperset(event.hashes), "removed what is not stored"
            self.hashes.difference_update(event.hashes)
        elif isinstance(event, MarksStored):
            assert event.parent == b"" or event.parent in self.hashes, "a mark in a text that is not there"
            assert not self.marks.intersection(event.hashes), "a mark stored twice"
            self.marks.update(event.hashes)
        else:
            assert self.marks.issuperset(event.hashes), "a mark removed that is not stored"
            self.marks.difference_update(event.hashes)


def matchable_hashes(cache: PrefixCache) -> set[bytes]:
    """The hashes of all full blocks that can be matched, made anew from their texts."""
    size, hashes = cache.block_size, set()
    for node in cache.walk():
        path = [node]
        while path[-1].parent is not None:
            path.append(path[-1].parent)
        data, before = b"".join(above.tokens for above in reversed(path)), b""
        for end in range(size, node.end + 1, size):
            owner = next(above for above in path if above.start < end <= above.end)
            before = chain_hash(before, scope_key(owner), data[TOKEN_BYTES * (end - size) : TOKEN_BYTES * end])
            if owner is node:
                hashes.add(before)
    return hashes


def matchable_marks(cache: PrefixCache) -> set[bytes]:
    """The hashes of all marks that can be hit, made anew from their texts."""
    size, hashes = cache.block_size, set()
    for node in cache.walk():
        path = [node]
        while path[-1].parent is not None:
            path.append(path[-1].parent)
        data = b"".join(above.tokens for above in reversed(path))
        for position in node.marks or ():
            before = b""
            for end in range(size, position + 1, size):
                owner = next(above for above in path if above.start < end <= above.end)
                before = chain_hash(before, scope_key(owner), data[TOKEN_BYTES * (end - size) : TOKEN_BYTES * end])
            tail = data[TOKEN_BYTES * (position // size * size) : TOKEN_BYTES * position]
            hashes.add(chain_hash(before, scope_key(node), tail))
    return hashes


def text_of(node: Node) -> tuple[list[int], Namespace]:
    """All tokens of a node's path, and the namespace in which it is matched."""
    parts, above = [], node
    while above.parent is not None:
        parts.append(above.tokens)
        above = above.parent
    return unpack(b"".join(reversed(parts))), namespace_of_node(node)


def told_from(cache: PrefixCache, tokens: list[int], namespace: Namespace) -> tuple[int, set[int], bool]:
    """By a look at all there is: how much of a text is cached, with what cached text goes on, and whether another
    namespace has one token more."""
    asked = list(zip(tokens, owners(len(tokens), namespace), strict=True))
    name = namespace.public if isinstance(namespace, Segments) else namespace
    match_len, goes_on, elsewhere = 0, dict[int, set[object]](), 0
    for node in cache.walk():
        path = [node]
        while path[-1].parent is not None:
            path.append(path[-1].parent)
        text, public = unpack(b"".join(above.tokens for above in reversed(path))), path[-1].scope
        salted = next((above for above in path if isinstance(above.key, tuple)), None)
        whose: Namespace = public if salted is None else Segments(public, salted.start, str(salted.key[0]))
        cached = list(zip(text, owners(len(text), whose), strict=True))
        same = num_common(asked, cached)
        match_len = max(match_len, same)
        if same < len(cached) and (same == len(asked) or cached[same][1] == asked[same][1]):
            goes_on.setdefault(same, set()).add(cached[same][0])
        if public != name and salted is None:
            elsewhere = max(elsewhere, num_common(tokens, text))
    return match_len, goes_on.get(match_len, set()), elsewhere > match_len


def goes_on_at(cache: PrefixCache, tokens: list[int], namespace: Namespace, room: MarkRoom, hit_len: int) -> bool:
    """By a look at all marks: whether a match of just these tokens can and must go on at `hit_len`. That is the last
    mark; with windows alone it may be the end of the match, if another mark's window reaches back as far."""
    asked, last, reach = list(zip(tokens, owners(len(tokens), namespace), strict=True)), 0, False
    first = max(0, len(tokens) - (room.window or 0) + 1) // cache.block_size
    for node in cache.walk():
        text, whose = text_of(node)
        cached = list(zip(text, owners(len(text), whose), strict=True))
        same = num_common(asked, cached)
        last = max([last, *(at for at in node.marks or () if at <= same)])
        if same == len(asked) and not room.num_slots:
            reach |= any(mark.position > same and mark.first <= first for mark in (node.marks or {}).values())
    return hit_len == last or (hit_len == len(tokens) and reach)


def owners(num_tokens: int, namespace: Namespace) -> list[Namespace]:
    """Who may read each token."""
    if isinstance(namespace, str):
        return [namespace] * num_tokens
    public = min(namespace.public_len, num_tokens)
    return [namespace.public] * public + [namespace] * (num_tokens - public)


def num_common(left: Sequence[object], right: Sequence[object]) -> int:
    """How long the common beginning is."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(left), len(right)))


def covers(dropped: Namespace, other: Namespace) -> bool:
    """Does dropping one namespace take (a part of) the other?"""
    if isinstance(dropped, Segments):
        return isinstance(other, Segments) and (dropped.public, dropped.salt) == (other.public, other.salt)
    return dropped == (other.public if isinstance(other, Segments) else other)
