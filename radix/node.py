"""A node of the radix tree: one edge, its blocks, its marks, and what is known of it. Never changes anything by itself.

A mark is what layers with windows and states need to go on at a position, which lies in its node or at its end:

    position   0 ........... first ........ position
    windows                  |== blocks ====|           of the positions [position - window + 1, position)
    states                                  slot        after exactly `position` tokens
"""

import re
from array import array
from types import MappingProxyType
from typing import Final, TypeAlias

from stemma.radix.place import Place
from stemma.radix.tokens import TOKEN_BYTES
from stemma.radix.trie_edge import TrieEdge

# The first token, packed; with a salt where private text begins; with a number where it was forgotten.
ChildKey: TypeAlias = "bytes | tuple[str | int, bytes]"
# A leaf that sleeps (leaves.py) is there by its ticket, or not at all.
Children: TypeAlias = "dict[ChildKey, Node | int] | MappingProxyType[ChildKey, Node | int]"


PRIVATE_SCOPE: Final = re.compile("((?:[^\x1f]|\x1f\x1f)*)\x1f(\\d+)\x1f(.*)", re.DOTALL)


def private_scope(namespace: str, position: int, salt: str) -> str:
    """The scope of the text behind a salt boundary: no two have the same, whatever stands in their names."""
    return f"{_before_salt(namespace)}{position}\x1f{salt}"


def is_behind(scope: str, namespace: str, salt: str | None) -> bool:
    """Whether a private scope lies behind a salt boundary of this namespace; with a salt: behind one of this salt."""
    before = _before_salt(namespace)
    return scope.startswith(before) and (salt is None or scope[len(before) :].partition("\x1f")[2] == salt)


def parts_of_private(scope: str) -> tuple[str, int, str]:
    """Namespace, position and salt of a private scope."""
    found = PRIVATE_SCOPE.fullmatch(scope)
    assert found is not None
    return found[1].replace("\x1f\x1f", "\x1f"), int(found[2]), found[3]


def _before_salt(namespace: str) -> str:
    return namespace.replace("\x1f", "\x1f\x1f") + "\x1f"


NO_SLOT: Final = -1
NO_CHILDREN: Final[Children] = MappingProxyType({})  # of all leaves: most nodes are leaves


class Node:
    """One edge of the tree and what hangs below it."""

    __slots__ = (
        "births",
        "blocks",
        "born_at",
        "bucket",
        "children",
        "children_born",
        "children_used",
        "end",
        "forgotten",
        "has_lost_ends",
        "has_private_children",
        "hashes",
        "hits",
        "is_asleep",
        "is_restless",
        "key",
        "kind",
        "last_access",
        "leases",
        "marks",
        "num_apart",
        "number",
        "parent",
        "places",
        "priority",
        "private",
        "prompt",
        "rate",
        "ref_count",
        "reuse_hint",
        "scope",
        "shared",
        "start",
        "ticket",
        "tokens",
        "touched_at",
        "trie_edge",
        "used_at",
        "writer",
    )

    def __init__(
        self,
        parent: "Node | None",
        key: ChildKey,
        start: int,
        tokens: bytes,
        blocks: "array[int]",
        shared: int,
        scope: str,
        private: bool = False,
    ) -> None:
        self.scope = scope  # whose text this is: the namespace, with salt boundary and salt where the text is private
        self.private = private  # behind a salt boundary
        self.forgotten = False  # nothing matches it any more; it goes when nobody holds it
        self.parent = parent
        self.key = key
        self.start = start
        self.end = start + len(tokens) // TOKEN_BYTES
        self.tokens = tokens
        self.blocks = blocks
        self.shared = shared  # 1: blocks[0] belongs to an ancestor
        self.children = NO_CHILDREN
        self.ref_count = 0  # leases on this node + children that are held
        self.leases = 0  # leases on this node itself
        self.writer = False  # a lease writes on in the last block, past `end`
        self.trie_edge: TrieEdge | None = None  # where it ends in the trie of all namespaces, if it is there
        self.marks: dict[int, Mark] | None = None  # by position: start < position <= end
        self.places: dict[int, Place] | None = None  # likewise: of its marks, and where there were or could be others
        # From where on the prompt was new whose request computed this, and where it ended; None without marks.
        self.prompt: tuple[int, int] | None = None
        self.hashes: list[bytes] | None = None  # of the blocks that end in this node; while somebody listens
        # What a policy may know. Logical time counts the blocks ever allocated: the clock that eviction runs by.
        self.last_access = 0.0  # when it was last used, by the cache's clock
        self.used_at = 0  # the same in logical time
        self.touched_at = 0  # when it was last used or written to, by the hedge's count of that
        self.born_at = 0  # when it was first computed, in logical time; survives eviction while that is remembered
        self.hits = 0  # how often it was matched; survives eviction likewise
        self.children_born = 0
        self.children_used = 0  # how many of the children born were matched later
        self.priority = 0  # the highest of the leases that published it
        self.reuse_hint = 1.0  # what the program said when it let go: 0.0 never again, above 1.0 soon
        self.ticket = 0  # the number of its entry in the eviction queue; 0: none
        self.rate = 0.0  # what the policy has predicted of it since its last use; 0.0: nothing
        self.kind = 0  # as what it was predicted: a number of the policy's, below 65,536
        self.bucket = 0  # the number of where in the policy's queue it waits
        self.is_asleep = False  # a picture of a leaf that sleeps: to be read only
        self.is_restless = False  # waits, and is not fit to sleep
        self.number = 0  # under which leaves below it sleep; 0: none has
        self.num_apart = 0  # how many children sleep and are not in `children` (leaves.py)
        self.births: bytearray | None = None  # if some ever were: the first tokens of all children, as they came
        self.has_private_children = False  # told apart by `beginnings`
        self.has_lost_ends = False  # the memory of the evicted looks up here what it knows of them

    def put(self, key: ChildKey, child: "Node | int") -> None:
        """One more child, or another one in its place; by its ticket if it sleeps."""
        if isinstance(self.children, dict):
            self.children[key] = child
        else:
            self.children = {key: child}

    def take(self, key: ChildKey) -> None:
        """One child less."""
        children = self.children
        assert isinstance(children, dict)
        del children[key]
        if not children:
            self.children = NO_CHILDREN

    @property
    def has_children(self) -> bool:
        """Whether text goes on from here, awake or asleep."""
        return self.num_apart > 0 or bool(self.children)

    @property
    def owned(self) -> int:
        """How many blocks come free when this node goes."""
        return len(self.blocks) - self.shared


class Mark:
    """Where every layer can go on: in a node of the tree or, before it is published, a lease's own."""

    __slots__ = (
        "bucket",
        "first",
        "hits",
        "holds",
        "node",
        "place",
        "position",
        "saved",
        "slot",
        "ticket",
        "used_at",
        "window_blocks",
    )

    def __init__(self, position: int, slot: int, first: int, window_blocks: "array[int]", used_at: int) -> None:
        self.position = position
        self.slot = slot  # NO_SLOT without state layers
        self.first = first  # index of the first window block, counted from the root
        self.window_blocks = window_blocks
        self.node: Node | None = None  # that has its position: node.start < position <= node.end
        self.holds = 0  # leases that go on from here: it cannot be evicted
        self.used_at = used_at  # when it was made or hit, in logical time (blocks ever allocated)
        self.hits = 0
        # Where it is chosen which goes first:
        self.place: Place | None = None  # what is known of its position, while it is in the tree
        self.saved = 0  # tokens down to the mark below when it began to wait
        self.ticket = 0  # the number of its entry in the queue; 0: none
        self.bucket: object = None  # where in the queue it waits
