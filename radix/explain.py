"""Why a query matched as far as it did. Reads only; works from the tree and the memory of evicted edges."""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from stemma.radix.ghost_list import GhostList
from stemma.radix.mark import last_mark
from stemma.radix.marks import MarkStore
from stemma.radix.node import Node, private_scope
from stemma.radix.tokens import TOKEN_BYTES, Packed, token_at
from stemma.radix.tree import SaltBoundary, Tree

MAX_EXPECTED = 8
Elsewhere = Callable[[Node, Packed, int], bool]


class Reason(Enum):
    """Why the match stopped."""

    COMPLETE = "every token is cached"
    DIVERGED = "the cached text goes on with another token"
    EVICTED = "the text was cached here and has been evicted"
    OTHER_NAMESPACE = "another namespace has the next tokens, this one does not"
    NEVER_SEEN = "nothing in the cache goes on from here"


class Explanation(NamedTuple):
    """`match_len` of `num_tokens` matched. `position` is the first token that did not, `got` its id.

    `hit_len`: how many need not be computed; less than what matched only where windows or states have no mark there.
    """

    num_tokens: int
    hit_len: int
    reason: Reason
    position: int
    got: int | None
    expected: tuple[int, ...]  # the ids with which cached text goes on there, the newest eight
    evicted_at: float | None  # by the cache's clock
    evicted_len: int  # how many more tokens would have matched without that eviction
    copied_tokens: int  # tokens of the match in a block used in part: copied, not computed
    replayed_len: int = 0  # tokens that matched behind the last mark: computed again, not stored again
    marks: tuple[int, ...] = ()  # the marks nearest to the end of the match: at or before it, behind it
    beneath_len: int = 0  # tokens behind the match that a tier beneath the cache has, as far as that is known at once

    @property
    def match_len(self) -> int:
        """Tokens whose KV in full layers is cached."""
        return self.hit_len + self.replayed_len

    def __str__(self) -> str:
        text = f"{self.hit_len} of {self.num_tokens} tokens cached"
        if self.replayed_len:
            text += f" (matched {self.match_len:,}, no mark between {self.hit_len:,} and {self.match_len:,}: replayed)"
        if self.beneath_len:
            text += f", {self.beneath_len:,} more in a tier beneath"
        text += f": {self.reason.value}"
        if self.reason is Reason.DIVERGED:
            text += f" (token {self.position}: expected {' or '.join(map(str, self.expected))}, got {self.got})"
        if self.reason is Reason.EVICTED:
            text += f" ({self.evicted_len} more tokens, at {self.evicted_at:.3f})"
        return text


def explain(
    tree: Tree,
    ghosts: GhostList,
    root: Node,
    data: Packed,
    salt_boundary: SaltBoundary | None,
    others_have: Elsewhere,
    marks: MarkStore | None,
) -> Explanation:
    """Explain the match of packed tokens below `root`. others_have: whether another namespace has so many of them."""
    num_tokens = len(data) // TOKEN_BYTES
    node, match_len = tree.descend(root, 0, data, num_tokens, [], 0, salt_boundary)
    near: tuple[int, ...] = ()
    hit_len = match_len
    if marks is not None:
        near, hit_len = _marks_near(node, match_len), marks.going_on(node, match_len)[0]
    copied, replayed = match_len % tree.block_size, match_len - hit_len
    if match_len == num_tokens:
        complete = Reason.COMPLETE
        return Explanation(num_tokens, hit_len, complete, match_len, None, (), None, 0, copied, replayed, near)
    expected = _goes_on(tree, node, match_len, salt_boundary)
    reason = Reason.DIVERGED if expected else Reason.NEVER_SEEN
    private = salt_boundary is not None and match_len >= salt_boundary.position
    scope = private_scope(root.scope, *salt_boundary) if salt_boundary is not None and private else root.scope
    found = ghosts.find(scope, match_len, data)
    evicted_at, evicted_len = None, 0
    if found is not None:
        ghost, evicted_len = found
        reason, evicted_at = Reason.EVICTED, ghost.evicted_at
    elif others_have(root, data, match_len + 1):
        reason = Reason.OTHER_NAMESPACE
    return Explanation(
        num_tokens,
        hit_len,
        reason,
        match_len,
        token_at(data, match_len),
        expected,
        evicted_at,
        evicted_len,
        copied,
        replayed,
        near,
    )


def _marks_near(node: Node, position: int) -> tuple[int, ...]:
    """The last mark at or before a position of the node, and the first behind it in the same edge."""
    before = last_mark(node, position)
    behind = min((at for at in node.marks or () if at > position), default=None)
    found = () if before is None else (before.position,)
    return found if behind is None else (*found, behind)


def _goes_on(tree: Tree, node: Node, position: int, salt_boundary: SaltBoundary | None) -> tuple[int, ...]:
    """The ids that follow `position` in this scope, the newest eight."""
    salt = salt_boundary.salt if salt_boundary is not None and position == salt_boundary.position else None
    if position < node.end:
        return () if salt is not None else (token_at(node.tokens, position - node.start),)
    return tuple(token_at(token, 0) for token in tree.newest(node, salt, MAX_EXPECTED))
