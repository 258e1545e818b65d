"""What commit puts into block tables when several have computed the same beginning and go on with different ends."""

from collections.abc import Callable

import pytest

from stemma.radix import Lease, Namespace, PrefixCache, Segments

Memory = dict[tuple[int, int], tuple[int, ...]]


def compute(cache: PrefixCache, tokens: list[int], namespace: Namespace) -> Lease:
    lease = cache.acquire(tokens, namespace)
    lease.reserve(len(tokens) - lease.hit_len)
    return lease


def write(memory: Memory, lease: Lease, tokens: list[int], size: int) -> None:
    for position in range(lease.num_tokens, len(tokens)):
        memory[lease.blocks[position // size], position % size] = tuple(tokens[: position + 1])
    lease.extend(tokens[lease.num_tokens :])


def read(memory: Memory, lease: Lease, size: int) -> list[tuple[int, ...]]:
    return [memory[lease.blocks[position // size], position % size] for position in range(lease.num_tokens)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("salt_boundary", [1, 5, 6, 7, 9])
def test_a_common_beginning_is_adopted_and_what_follows_it_stays_each_tenants_own(
    size: int, salt_boundary: int
) -> None:
    cache, memory = PrefixCache(64, size), Memory()
    common = list(range(salt_boundary))
    ends = {"a": [91, 92, 93, 94, 95], "b": [81, 82, 83, 84, 85]}
    leases = {salt: compute(cache, common + end, Segments("app", salt_boundary, salt)) for salt, end in ends.items()}
    for salt, end in ends.items():
        write(memory, leases[salt], common + end, size)
    for salt, end in ends.items():
        leases[salt].commit()
        cache.check()
        found = cache.match(common + end, Segments("app", salt_boundary, salt))
        assert found.hit_len == salt_boundary + 5
        assert found.blocks == leases[salt].blocks
    for salt, end in ends.items():
        text = common + end
        assert read(memory, leases[salt], size) == [tuple(text[: position + 1]) for position in range(len(text))]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_an_evicted_text_that_two_ask_for_again_with_different_ends(
    size: int, order: tuple[int, int], store: Callable[..., list[int]]
) -> None:
    """The memory of evicted text cuts what they publish inside a block; `size` x 3 - 1 tokens are remembered."""
    cache, memory = PrefixCache(40, size), Memory()
    common = list(range(3 * size - 1))
    store(cache, common)
    store(cache, list(range(1000, 1000 + 40 * size)))
    store(cache, list(range(3000, 3000 + 20 * size)))
    assert cache.match(common).hit_len == 0
    texts = [[*common, 91, 92, 93], [*common, 81, 82, 83]]
    leases = [compute(cache, text, "") for text in texts]
    for lease, text in zip(leases, texts, strict=True):
        write(memory, lease, text, size)
    for number in order:
        leases[number].commit()
        cache.check()
    for lease, text in zip(leases, texts, strict=True):
        assert read(memory, lease, size) == [tuple(text[: position + 1]) for position in range(len(text))]
