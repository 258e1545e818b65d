"""The tree of one cache, block by block, rebuilt from what it told.

    told:     stored(parent, hashes, tokens) ... removed(hashes) ... cleared
    mirror:   hash -> parent, tokens, scope, in which tiers

A block is there as long as one tier has it. Holds what was told, nothing else: who missed something clears the mirror
(`Gap` does) and has all told again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from stemma.radix.events import AllCleared, BlocksRemoved, BlocksStored, MarksRemoved, MarksStored
from stemma.radix.tokens import TOKEN_BYTES, pack, unpack
from stemma.scale.events.forms import FIRST, Told

Tier = tuple[str, str | None]
FIRST_TIER: Final[Tier] = (FIRST, None)


class Block:
    """A full block. tokens: packed; none where only the hash was told. tiers: who has it, by medium and locality."""

    __slots__ = ("parent", "scope", "tiers", "tokens")

    def __init__(self, parent: bytes, tokens: bytes, scope: str, tiers: tuple[Tier, ...]) -> None:
        self.parent = parent
        self.tokens = tokens
        self.scope = scope
        self.tiers = tiers


class Mirror:
    """What one publisher's cache holds. blocks: by hash. marks: positions by hash, of models that have them."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, Block] = {}
        self.marks: dict[tuple[bytes, int, str], bytes] = {}  # hash, position, scope: the block before
        self.block_size = 0

    def apply(self, told: Told) -> None:
        """Be told of one event."""
        match told.event:
            case BlocksStored():
                self._stored(told.event, (told.medium, told.locality))
            case BlocksRemoved(hashes):
                self._removed(hashes, (told.medium, told.locality))
            case MarksStored(parent, hashes, positions, scope):
                self.marks |= {(mark, at, scope): parent for mark, at in zip(hashes, positions, strict=True)}
            case MarksRemoved(hashes, positions, scope):
                for mark, at in zip(hashes, positions, strict=True):
                    self.marks.pop((mark, at, scope), None)
            case AllCleared():
                self.clear()

    def clear(self) -> None:
        """Know nothing."""
        self.blocks.clear()
        self.marks.clear()

    def _stored(self, event: BlocksStored, tier: Tier) -> None:
        data, width, parent = bytes(pack(event.tokens)), TOKEN_BYTES * event.block_size, event.parent
        self.block_size = event.block_size or self.block_size
        tiers = (tier,)
        for index, name in enumerate(event.hashes):
            block = self.blocks.get(name)
            if block is None:
                tokens = data[index * width : (index + 1) * width]
                self.blocks[name] = Block(parent, tokens, event.scope, tiers)
            else:
                if tier not in block.tiers:
                    block.tiers = (*block.tiers, tier)
                if data and not block.tokens:  # only its hash was known
                    tokens = data[index * width : (index + 1) * width]
                    block.parent, block.tokens, block.scope = parent, tokens, event.scope
            parent = name

    def _removed(self, hashes: Iterable[bytes], tier: Tier) -> None:
        for name in hashes:
            block = self.blocks.get(name)
            if block is not None and tier in block.tiers:
                block.tiers = tuple(each for each in block.tiers if each != tier)
                if not block.tiers:
                    del self.blocks[name]

    # Reading ----------------------------------------------------------------
    def path(self, name: bytes) -> list[int] | None:
        """All tokens from the root to a block's end; None if a block on the way is not there."""
        parts: list[bytes] = []
        while name:
            block = self.blocks.get(name)
            if block is None or not block.tokens:
                return None
            parts.append(block.tokens)
            name = block.parent
        return unpack(b"".join(reversed(parts)))

    def of(self, tier: Tier) -> list[bytes]:
        """The hashes of what a tier has, as they came."""
        return [name for name, block in self.blocks.items() if tier in block.tiers]

    def has_other(self, tier: Tier) -> bool:
        """Whether any tier but this one has something."""
        return any(block.tiers != (tier,) for block in self.blocks.values())

    def told(self) -> Iterator[Told]:
        """What makes an empty mirror this one: blocks behind each other in one event, parents before what follows
        them, then marks."""
        listed: set[bytes] = set()
        run: list[bytes] = []
        for name in self.blocks:
            for each in self._unlisted(name, listed):
                block, last = self.blocks[each], self.blocks[run[-1]] if run else None
                if last is not None and not self._goes_on(run[-1], last, block):
                    yield from self._told_run(run)
                    run = []
                run.append(each)
        if run:
            yield from self._told_run(run)
        for (mark, at, scope), parent in self.marks.items():
            yield Told(MarksStored(parent, [mark], [at], scope))

    def _unlisted(self, name: bytes, listed: set[bytes]) -> list[bytes]:
        """A block and what is above it, from above, but for what was listed; all of it is, from now on."""
        above: list[bytes] = []
        while name in self.blocks and name not in listed:
            listed.add(name)
            above.append(name)
            name = self.blocks[name].parent
        return above[::-1]

    @staticmethod
    def _goes_on(name: bytes, last: Block, block: Block) -> bool:
        same = (block.scope, block.tiers, bool(block.tokens)) == (last.scope, last.tiers, bool(last.tokens))
        return block.parent == name and same

    def _told_run(self, run: list[bytes]) -> Iterator[Told]:
        first = self.blocks[run[0]]
        tokens = unpack(b"".join(self.blocks[name].tokens for name in run))
        size = len(tokens) // len(run)
        for medium, locality in first.tiers:
            yield Told(BlocksStored(first.parent, run, tokens, size, first.scope), medium, locality)
