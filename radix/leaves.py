"""The leaves that wait for eviction, by ticket. The newest are nodes; the others sleep: each is a string of bytes,
which costs a third of a node with its array and is nothing that a garbage collection looks at.

    awake     in parent.children
    asleep    not there: found by parent and first token (places.py), and what it was is a record (records.py)
    to read   a picture of it, made from the record; it is no part of the tree
    to write  `wake` makes a picture the node again

A node with children never sleeps, nor does one that a lease holds: a record needs no more than its parent's number.
The order of a node's children, which `children` has no longer, is kept by `births`. Where some of them are private,
they stay in `children`, by their tickets. Never says which leaf goes first.
"""

from array import array
from collections.abc import Iterator
from itertools import islice
from struct import Struct
from typing import Final

from stemma.radix.node import ChildKey, Node, private_scope
from stemma.radix.places import HASH_MASK, NUMBER_BITS, Places
from stemma.radix.records import Records
from stemma.radix.tokens import TOKEN_BYTES

MOST_AWAKE: Final = 4096  # a full collection of garbage walks over them in some two milliseconds
_LAID_AT_ONCE: Final = 32
# Number of the parent, and of the queue's bucket; times; counts; lengths in bytes of tokens, blocks and salt; flags
_LEAF: Final = Struct("=qqdqqqdfIIIiHIIHB")
_NUMBER: Final = Struct("=q")
_SHARED: Final = 1  # flags
_SALTED: Final = 2
_HASHED: Final = 4
_HASH_BYTES: Final = 16
_MOST: Final = 2**32 - 1
_MOST_PRIORITY: Final = 2**31 - 1
_MOST_SALT: Final = 2**16 - 1


class Leaves:
    """Leaves by ticket, awake or asleep."""

    __slots__ = ("_apart", "_asleep", "_laid_at", "_last_parent", "_most_awake", "_parents", "_restless", "awake")

    def __init__(self) -> None:
        self.awake: dict[int, Node] = {}  # nodes that may sleep, the oldest first; never another dictionary
        self._restless: dict[int, Node] = {}  # those of which a record would not say all
        self._asleep = Records(0)
        self._apart = Places()  # tickets of those that are in no `children`, by number of the parent and first token
        self._parents: dict[int, Node] = {}  # of those that sleep, by number
        self._last_parent = 0
        self.keep_awake(MOST_AWAKE)

    def keep_awake(self, most: int | None) -> None:
        """How many leaves are nodes (None: all); a few more are laid down together."""
        self._most_awake = most or 0
        self._laid_at = 2**60 if most is None else most + max(1, min(most, _LAID_AT_ONCE))

    def __len__(self) -> int:
        return len(self.awake) + len(self._restless) + len(self._asleep)

    def has(self, ticket: int) -> bool:
        """Whether a leaf waits that is not in `awake`."""
        return self._asleep.has(ticket) or ticket in self._restless

    def get(self, ticket: int) -> Node | None:
        """A leaf that is not in `awake`, or a picture of it; None if it waits no more."""
        leaf = self._restless.get(ticket)
        if leaf is None and (record := self._asleep.get(ticket)) is not None:
            leaf = self._picture(ticket, record)
        return leaf

    def picture(self, ticket: int) -> Node:
        """A picture of a leaf that sleeps."""
        record = self._asleep.get(ticket)
        assert record is not None
        return self._picture(ticket, record)

    def add(self, leaf: Node) -> None:
        """A leaf begins to wait, awake."""
        self.awake[leaf.ticket] = leaf

    def remove(self, leaf: Node) -> None:
        """A leaf waits no more. If it slept, it is awake now."""
        if leaf.is_asleep:
            self.wake(leaf)
        if leaf.is_restless:
            del self._restless[leaf.ticket]
            leaf.is_restless = False
        else:
            del self.awake[leaf.ticket]

    def wake(self, picture: Node) -> None:
        """Put a picture in its place: it is the leaf from now on, and goes on waiting."""
        parent, ticket = picture.parent, picture.ticket
        assert parent is not None
        assert picture.is_asleep
        self._asleep.pop(ticket)
        if picture.key not in parent.children:
            self._take_from_apart(parent, picture.tokens[:TOKEN_BYTES], ticket)
        picture.is_asleep = False
        parent.put(picture.key, picture)
        self.awake[ticket] = picture

    def lay_down(self) -> None:
        """Let the oldest sleep, if too many are awake. Whoever has a node of them must not go on with it."""
        awake = self.awake
        if len(awake) >= self._laid_at:
            for leaf in list(islice(awake.values(), len(awake) - self._most_awake)):
                del awake[leaf.ticket]
                if _can_sleep(leaf):
                    self._lay(leaf)
                else:
                    self._restless[leaf.ticket] = leaf
                    leaf.is_restless = True

    def lay(self, leaf: Node) -> None:
        """Let this one sleep, as it did before it was woken."""
        if leaf.ticket in self.awake and _can_sleep(leaf):
            del self.awake[leaf.ticket]
            self._lay(leaf)

    # Children ------------------------------------------------------------------------------------

    def child(self, parent: Node, token: bytes) -> Node | None:
        """A picture of the child with this first token that sleeps apart, if there is one."""
        found = self._find(parent, token)
        return None if found is None else self._picture(*found)

    def ticket_of(self, parent: Node, key: ChildKey) -> int | None:
        """The ticket of a child that sleeps."""
        child = parent.children.get(key)
        if isinstance(child, int):
            return child
        found = self._find(parent, key) if isinstance(key, bytes) else None
        return None if found is None else found[0]

    def children_of(self, parent: Node) -> list[Node | int]:
        """All of them, in the order in which they came; those that sleep by their tickets."""
        return list(parent.children.values() if parent.births is None else self._in_order(parent).values())

    def newest(self, parent: Node, count: int) -> list[bytes]:
        """The first tokens of at most so many children, all public, of which some sleep or did."""
        newest: dict[bytes, None] = {}
        for token in _backwards(parent):
            if len(newest) == count:
                break
            if token in parent.children or self._find(parent, token) is not None:
                newest[token] = None
        return list(newest)

    def born(self, parent: Node, key: ChildKey) -> None:
        """A node of whose children some sleep apart, or did, has one more."""
        if isinstance(key, bytes):
            assert self._find(parent, key) is None
            assert parent.births is not None
            parent.births += key
            return
        children = self._in_order(parent)  # from now on there are private ones
        for token, child in children.items():
            if isinstance(child, int) and isinstance(token, bytes):
                self._take_from_apart(parent, token, child)
        parent.children, parent.births = children, None

    def lost_child(self, parent: Node) -> None:
        """A node under whose number leaves sleep, or did, has one child less."""
        if not parent.has_children:
            del self._parents[parent.number]
            parent.number, parent.births = 0, None
        elif parent.births is not None:
            num_children = len(parent.children) + parent.num_apart
            if len(parent.births) > TOKEN_BYTES * (2 * num_children + 64):
                parent.births = bytearray(b"".join(key for key in self._in_order(parent) if isinstance(key, bytes)))

    def _in_order(self, parent: Node) -> dict[ChildKey, Node | int]:
        """All children of a node with `births`, as its `children` would be if none slept apart."""
        found: dict[ChildKey, Node | int] = {}
        for token in _backwards(parent):
            if token not in found:
                child = self.ticket_of(parent, token) or parent.children.get(token)
                if child is not None:
                    found[token] = child
        hidden = {key: child for key, child in parent.children.items() if isinstance(key, tuple)}
        return dict(reversed(found.items())) | hidden

    def _find(self, parent: Node, token: bytes) -> tuple[int, bytes] | None:
        """Ticket and record of a child that sleeps apart."""
        hashed = _hash(parent, token)
        place = self._apart.first(hashed) if parent.num_apart else -1
        while place >= 0:
            ticket = self._apart.at(place)
            record = self._asleep.get(ticket)
            assert record is not None
            if record.startswith(token, _LEAF.size) and _NUMBER.unpack_from(record)[0] == parent.number:
                return ticket, record
            place = self._apart.after(place, hashed)
        return None

    def _take_from_apart(self, parent: Node, token: bytes, ticket: int) -> None:
        hashed = _hash(parent, token)
        place = self._apart.first(hashed)
        while self._apart.at(place) != ticket:
            place = self._apart.after(place, hashed)
        self._apart.remove(place)
        parent.num_apart -= 1

    def check(self, num_pictures: int) -> None:
        """Raise AssertionError unless so many leaves sleep, each in its place, and no parent is known for nothing."""
        self._asleep.check()
        assert sum(parent.num_apart for parent in self._parents.values()) == self._apart.num
        assert num_pictures == len(self._asleep), f"{len(self._asleep)} leaves sleep, {num_pictures} are in the tree"
        for number, parent in self._parents.items():
            assert parent.number == number, "a parent does not know its number"
            assert parent.has_children, "a node without children is known as a parent"
            if parent.births is not None:
                num_children = len(parent.children) + parent.num_apart
                assert len(self._in_order(parent)) == num_children, "the order of children does not have all"
        for ticket, leaf in [*self.awake.items(), *self._restless.items()]:
            assert leaf.ticket == ticket, "a leaf waits under another ticket than its own"
            assert not leaf.is_asleep, "a leaf that sleeps is kept as a node"
            assert leaf.is_restless == (ticket in self._restless)

    # Records -------------------------------------------------------------------------------------

    def _lay(self, leaf: Node) -> None:
        parent = leaf.parent
        assert parent is not None
        if not parent.number:
            self._last_parent += 1
            parent.number = self._last_parent
            self._parents[parent.number] = parent
        self._asleep.put(leaf.ticket, _record_of(leaf, parent.number))
        leaf.is_asleep = True
        if parent.has_private_children:
            parent.put(leaf.key, leaf.ticket)
            return
        if parent.births is None:
            parent.births = bytearray(b"".join(key for key in parent.children if isinstance(key, bytes)))
        parent.take(leaf.key)
        self._apart.add(_hash(parent, leaf.tokens[:TOKEN_BYTES]), leaf.ticket)
        parent.num_apart += 1

    def _picture(self, ticket: int, record: bytes) -> Node:
        (
            number,
            bucket,
            last_access,
            used_at,
            touched_at,
            born_at,
            rate,
            reuse_hint,
            hits,
            children_born,
            children_used,
            priority,
            kind,
            num_bytes,
            num_block_bytes,
            num_salt_bytes,
            flags,
        ) = _LEAF.unpack_from(record)
        parent = self._parents[number]
        blocks_at = _LEAF.size + num_bytes
        salt_at = blocks_at + num_block_bytes
        tokens = record[_LEAF.size : blocks_at]
        token, scope = tokens[:TOKEN_BYTES], parent.scope
        blocks = array("i", record[blocks_at:salt_at])
        if flags & _SALTED:
            salt = record[salt_at : salt_at + num_salt_bytes].decode("utf-8", "surrogatepass")
            scope = private_scope(scope, parent.end, salt)
            leaf = Node(parent, (salt, token), parent.end, tokens, blocks, flags & _SHARED, scope, True)
        else:
            leaf = Node(parent, token, parent.end, tokens, blocks, flags & _SHARED, scope, parent.private)
        if flags & _HASHED:
            hashes = record[salt_at + num_salt_bytes :]
            leaf.hashes = [hashes[at : at + _HASH_BYTES] for at in range(0, len(hashes), _HASH_BYTES)]
        leaf.is_asleep = True
        leaf.ticket, leaf.bucket, leaf.kind, leaf.rate, leaf.reuse_hint = ticket, bucket, kind, rate, reuse_hint
        leaf.last_access, leaf.used_at, leaf.touched_at, leaf.born_at = last_access, used_at, touched_at, born_at
        leaf.hits, leaf.children_born, leaf.children_used, leaf.priority = hits, children_born, children_used, priority
        return leaf


def _can_sleep(leaf: Node) -> bool:
    """Whether a record says all of it: not what others know by its node, nor numbers of unheard size."""
    assert not leaf.has_children
    assert not leaf.ref_count
    assert not leaf.forgotten
    assert not leaf.writer
    return (
        leaf.trie_edge is None
        and not leaf.has_lost_ends
        and leaf.places is None
        and leaf.prompt is None
        and leaf.ticket < 2**NUMBER_BITS
        and leaf.hits <= _MOST
        and leaf.children_born <= _MOST
        and -_MOST_PRIORITY <= leaf.priority <= _MOST_PRIORITY
        and (not isinstance(leaf.key, tuple) or len(_packed_salt(leaf)) <= _MOST_SALT)
    )


def _hash(parent: Node, token: bytes) -> int:
    return (hash(token) ^ parent.number * 0x9E3779B1) & HASH_MASK


def _backwards(parent: Node) -> Iterator[bytes]:
    """The first tokens of a node's children, the newest first; some were another child's before, or are gone."""
    births = parent.births
    assert births is not None
    for at in range(len(births) - TOKEN_BYTES, -1, -TOKEN_BYTES):
        yield bytes(births[at : at + TOKEN_BYTES])


def _packed_salt(leaf: Node) -> bytes:
    """The salt of the boundary behind which it begins, if there is one."""
    key = leaf.key
    if isinstance(key, tuple):
        salt = key[0]
        assert isinstance(salt, str), "what is hidden does not wait"
        return salt.encode("utf-8", "surrogatepass")
    return b""


def _record_of(leaf: Node, parent: int) -> bytes:
    blocks, salt, flags = leaf.blocks.tobytes(), _packed_salt(leaf), leaf.shared
    if isinstance(leaf.key, tuple):
        flags |= _SALTED
    record = blocks + salt
    if leaf.hashes is not None:
        flags |= _HASHED
        record += b"".join(leaf.hashes)
    head = _LEAF.pack(
        parent,
        leaf.bucket,
        leaf.last_access,
        leaf.used_at,
        leaf.touched_at,
        leaf.born_at,
        leaf.rate,
        leaf.reuse_hint,
        leaf.hits,
        leaf.children_born,
        leaf.children_used,
        leaf.priority,
        leaf.kind,
        len(leaf.tokens),
        len(blocks),
        len(salt),
        flags,
    )
    return head + leaf.tokens + record
