"""All tiers of an engine, the fastest first: where a block is, and who still lacks it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, cast

from stemma.runtime.tiers.guarded import Guarded
from stemma.runtime.tiers.tier import NearTier, Tier, TierStats


class Run(NamedTuple):
    """Blocks of a path that follow each other and stand in one tier: keys[start:end]."""

    tier: Guarded
    start: int
    end: int


class Stack:
    """See above. Never raises; any thread."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self.tiers = [Guarded(tier) for tier in tiers]
        self._near = [tier for tier in self.tiers if tier.is_near]
        self._far = [tier for tier in self.tiers if not tier.is_near]

    @property
    def near(self) -> list[NearTier]:
        """Those that know what they have."""
        return [cast(NearTier, guarded.tier) for guarded in self._near]

    def may_have(self, key: bytes) -> bool:
        """Whether it is worth asking, as can be told at once: a far tier that is up may have anything."""
        return any(tier.is_up for tier in self._far) or any(tier.contains((key,))[0] for tier in self._near)

    def num_near(self, keys: Sequence[bytes]) -> int:
        """How many of the first keys are in tiers that say so at once."""
        return next(
            (index for index, key in enumerate(keys) if not any(t.contains((key,))[0] for t in self._near)), len(keys)
        )

    def lacking(self, key: bytes) -> list[Guarded]:
        """The tiers that are to be given this block."""
        return [tier for tier in self.tiers if tier.wants(key)]

    def find(self, keys: Sequence[bytes]) -> list[Run]:
        """Where the first keys are, up to the first that nobody has. May ask far tiers."""
        runs, at = [], 0
        for found, group in groupby(self._holders(keys)):
            if found is None:
                break
            end = at + len(list(group))
            runs.append(Run(found, at, end))
            at = end
        return runs

    def last(self, keys: Sequence[bytes]) -> Run | None:
        """Where the last of the keys is that anybody has. May ask far tiers."""
        for index, found in reversed([*enumerate(self._holders(keys))]):
            if found is not None:
                return Run(found, index, index + 1)
        return None

    def _holders(self, keys: Sequence[bytes]) -> list[Guarded | None]:
        """For each key the first tier that has it."""
        where: list[Guarded | None] = [None] * len(keys)
        for tier in (*self._near, *self._far):
            missing = [index for index, found in enumerate(where) if found is None]
            for index, is_there in zip(missing, tier.contains([keys[index] for index in missing]), strict=True):
                if is_there:
                    where[index] = tier
        return where

    def stats(self) -> list[TierStats]:
        return [tier.stats() for tier in self.tiers]

    def close(self) -> None:
        for tier in self.tiers:
            tier.close()
