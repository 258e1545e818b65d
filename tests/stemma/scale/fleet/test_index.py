"""The index beside a plain model: a set of hashes for each replica."""

from __future__ import annotations

import random

from stemma.radix import AllCleared, BlocksRemoved, BlocksStored
from stemma.scale.fleet import Index, hashes_of


def stored(hashes: list[bytes]) -> BlocksStored:
    return BlocksStored(b"", hashes, [], 4, "")


def leading(held: set[bytes], hashes: list[bytes]) -> int:
    return next((depth for depth, block in enumerate(hashes) if block not in held), len(hashes))


def test_it_says_what_sets_say_whatever_happens_in_whatever_order():
    chance = random.Random(5)
    texts = [hashes_of([text % 3, text % 7, *range(text, text + 120)], "", 2) for text in range(30)]
    index, model = Index(), {f"replica {number}": set[bytes]() for number in range(70)}
    for _ in range(6000):
        replica = chance.choice(list(model))
        text = chance.choice(texts)
        first, last = sorted(chance.choices(range(len(text) + 1), k=2))
        part = text[first:last]
        what = chance.random()
        if what < 0.55:
            index.apply(replica, stored(part))
            model[replica].update(part)
        elif what < 0.97:
            part = chance.sample(part, len(part))
            index.apply(replica, BlocksRemoved(part))
            model[replica].difference_update(part)
        elif what < 0.985:
            index.apply(replica, AllCleared())
            model[replica].clear()
        else:
            index.drop(replica)
            model[replica].clear()
        asked = chance.choice(texts)
        counts = {name: leading(held, asked) for name, held in model.items()}
        assert index.match(asked) == {name: count for name, count in counts.items() if count}


def test_it_finds_a_prefix_again_after_a_gap_and_a_new_announcement():
    text = hashes_of(list(range(40)), "", 4)
    index = Index()
    index.apply("a", stored(text[:4]))
    index.apply("a", stored(text[6:]))  # what was told between is lost
    assert index.match(text) == {"a": 4}
    index.apply("a", AllCleared())
    assert index.match(text) == {}
    index.apply("a", stored(text))
    assert index.match(text) == {"a": 10}


def test_a_prompt_without_a_full_block_is_held_by_nobody():
    index = Index()
    index.apply("a", stored(hashes_of([1, 2, 3, 4], "", 4)))
    assert index.match([]) == {}
