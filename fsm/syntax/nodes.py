"""Small constructors and questions over `ast` nodes: they drop what matches nothing and what says nothing.

Never looks into rules; nodes with a `RuleRef` are for `recogniser.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stemma.fsm.errors import FormError
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import (
    Bounded,
    Characters,
    Choice,
    Concatenation,
    Difference,
    Intersection,
    Literal,
    Node,
    Repeat,
    RuleRef,
    Special,
)
from stemma.fsm.work import count_work

EMPTY = Concatenation(())
NOTHING = Choice(())
ANY_TEXT = Repeat(Characters(characters.SCALARS), 0, None)


def text(value: str) -> Literal:
    try:
        return Literal(value.encode())
    except UnicodeEncodeError:
        raise FormError(f"{value[:80]!r} holds a lone surrogate, which is no character; write the whole one") from None


def concat(parts: Iterable[Node]) -> Node:
    """The parts in order, flat; nothing at all where one of them matches nothing."""
    flat: list[Node] = []
    literals: list[bytes] = []  # the last parts, one after the other
    for part in parts:
        if isinstance(part, Literal):
            literals.append(part.data)
            continue
        own = part.parts if isinstance(part, Concatenation) else (part,)
        if isinstance(part, Choice) and not part.parts:
            return NOTHING
        if literals and own:
            flat.append(Literal(b"".join(literals)))
            literals.clear()
        flat += own
    if literals:
        flat.append(Literal(b"".join(literals)))
    return flat[0] if len(flat) == 1 else Concatenation(tuple(flat))


def choice(parts: Iterable[Node]) -> Node:
    """Any of the parts, flat and without repetition (of calls and of texts: to compare larger nodes costs too much)."""
    flat: dict[object, Node] = {}
    for part in parts:
        if isinstance(part, Literal):
            flat.setdefault(part.data, part)
            continue
        for each in part.parts if isinstance(part, Choice) else (part,):
            key = each.data if isinstance(each, Literal) else each if isinstance(each, RuleRef) else id(each)
            flat.setdefault(key, each)
    return next(iter(flat.values())) if len(flat) == 1 else Choice(tuple(flat.values()))


def repeat(part: Node, minimum: int, maximum: int | None) -> Node:
    if (minimum, maximum) == (1, 1):
        return part
    if maximum == 0 or part == NOTHING:
        return EMPTY if minimum == 0 or maximum == 0 else NOTHING
    return Repeat(part, minimum, maximum)


def optional(part: Node) -> Node:
    return repeat(part, 0, 1)


def both(left: Node, right: Node) -> Node:
    """What both match."""
    if NOTHING in (left, right):
        return NOTHING
    if left == ANY_TEXT or right == ANY_TEXT:
        return right if left == ANY_TEXT else left
    return left if left == right else Intersection(left, right)


def of_length(node: Node, minimum: int, maximum: int | None) -> Node:
    """What `node` matches in so many characters."""
    low, high = lengths(node)
    too_long = maximum is not None and (high is None or high > maximum)
    if minimum <= low and not too_long:
        return node
    cut = _cut(node, minimum, maximum)
    if cut is not None:
        return cut
    character = Characters(characters.SCALARS)
    if minimum > low:
        node = both(node, Repeat(character, minimum, None))
    if not too_long or node == NOTHING:
        return node
    assert maximum is not None, "there is a largest length"
    return Bounded(node, Repeat(character, 0, maximum))


def _cut(node: Node, minimum: int, maximum: int | None) -> Node | None:
    """The same as the limits of a repeat that ends `node`, where all else has one length."""
    if isinstance(node, Concatenation) and node.parts:
        *before, last = node.parts
        sizes = [lengths(part) for part in before]
        if any(low != high for low, high in sizes):
            return None
        size = sum(low for low, _ in sizes)
        if maximum is not None and maximum < size:
            return NOTHING
        own = _cut(last, max(minimum - size, 0), None if maximum is None else maximum - size)
        return None if own is None else concat((*before, own))
    if isinstance(node, Repeat) and isinstance(node.part, Characters):
        least = max(node.minimum, minimum)
        most = min((limit for limit in (node.maximum, maximum) if limit is not None), default=None)
        return NOTHING if most is not None and most < least else repeat(node.part, least, most)
    return None


def without(left: Node, right: Node) -> Node:
    """What `left` matches and `right` does not."""
    if NOTHING in (left, right):
        return left
    return NOTHING if left == right else Difference(left, right)


def specials(node: Node) -> Iterator[str]:
    """The special tokens that stand in a node."""
    if isinstance(node, Special):
        yield node.text
    elif isinstance(node, (Concatenation, Choice)):
        for part in node.parts:
            yield from specials(part)
    elif isinstance(node, Repeat):
        yield from specials(node.part)


def nullable(node: Node) -> bool:
    """Whether a node without calls matches the empty text. Parts may be shared, in more ways than can be gone."""
    count_work(1)
    if isinstance(node, Literal):
        return not node.data
    if isinstance(node, Concatenation):
        return all(map(nullable, node.parts))
    if isinstance(node, Choice):
        return any(map(nullable, node.parts))
    if isinstance(node, Repeat):
        return node.minimum == 0 or nullable(node.part)
    if isinstance(node, Difference):
        return nullable(node.left) and not nullable(node.right)
    if isinstance(node, Intersection):
        return nullable(node.left) and nullable(node.right)
    assert isinstance(node, (Characters, Special)), "a call has no language of its own"
    return False


def lengths(node: Node) -> tuple[int, int | None]:
    """The fewest and the most characters a node without calls can match (bounds: not always reached)."""
    count_work(1)
    if isinstance(node, Literal):
        size = len(node.data.decode())
        return size, size
    if isinstance(node, Characters):
        return 1, 1
    if isinstance(node, Repeat):
        low, high = lengths(node.part)
        unlimited = high is None or node.maximum is None
        return low * node.minimum, None if unlimited and high != 0 else (high or 0) * (node.maximum or 0)
    if isinstance(node, Concatenation):
        bounds = [lengths(part) for part in node.parts]
        return sum(low for low, _ in bounds), _total([high for _, high in bounds])
    if isinstance(node, Choice):
        bounds = [lengths(part) for part in node.parts]
        highs = [high for _, high in bounds]
        longest = None if None in highs else max((high for high in highs if high is not None), default=0)
        return min((low for low, _ in bounds), default=0), longest
    if isinstance(node, Difference):
        return lengths(node.left)
    assert isinstance(node, Intersection), "a call or a special token has no characters to count"
    (low, high), (other_low, other_high) = lengths(node.left), lengths(node.right)
    shortest = min((bound for bound in (high, other_high) if bound is not None), default=None)
    return max(low, other_low), shortest


def _total(bounds: list[int | None]) -> int | None:
    return None if None in bounds else sum(bound for bound in bounds if bound is not None)


def is_regular(node: Node) -> bool:
    """Whether a node holds neither calls nor special tokens. Each part is looked at once, however many share it."""
    seen, todo = {id(node)}, [node]
    while todo:
        each = todo.pop()
        if isinstance(each, (RuleRef, Special)):
            return False
        inner: tuple[Node, ...] = ()
        if isinstance(each, (Concatenation, Choice)):
            inner = each.parts
        elif isinstance(each, Repeat):
            inner = (each.part,)
        elif isinstance(each, (Difference, Intersection)):
            inner = (each.left, each.right)
        fresh = [part for part in inner if id(part) not in seen]
        seen.update(map(id, fresh))
        todo += fresh
    count_work(len(seen))
    return True
