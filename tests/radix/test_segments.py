"""Text that tenants share, and what each has behind it: nobody's part depends on what others have."""

from collections.abc import Callable

import pytest

from stemma.radix import Namespace, PrefixCache, Retained, Segments, namespace_of_node

PROMPT = list(range(10))  # ends inside a block of 4, of 8, and not of 5
Pin = Callable[..., Retained]


def go_on(cache: PrefixCache, salt: str, end: list[int], max_hit: int | None = None) -> tuple[int, int, int]:
    """Tokens found, blocks copied, and blocks that its text owns, of one request behind the prompt."""
    text, namespace = [*PROMPT, *end], Segments("app", len(PROMPT), salt)
    with cache.acquire(text, namespace, max_hit=max_hit) as lease:
        copies = lease.reserve(len(text) - lease.hit_len)
        lease.extend(text[lease.hit_len :])
        lease.commit()
        found = lease.hit_len
    cache.check()
    own = [node.owned for node in cache.walk() if node.private and namespace_of_node(node) == namespace]
    return found, len(copies), sum(own)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 16])
@pytest.mark.parametrize("before", [[], ["other"], ["other", "third"]])
def test_what_a_tenant_finds_copies_and_owns_does_not_depend_on_who_was_there_before(
    size: int, before: list[str], store: Callable[..., list[int]], pin: Pin
) -> None:
    alone, cache = PrefixCache(128, size), PrefixCache(128, size)
    for each in (alone, cache):
        store(each, PROMPT, "app")
        pin(each, PROMPT, "app")
    for salt in before:
        go_on(cache, salt, [91, 92, 93])
    assert go_on(cache, "ours", [91, 92, 93, 94, 95]) == go_on(alone, "ours", [91, 92, 93, 94, 95])
    assert go_on(cache, "ours", [91, 92, 93, 80]) == go_on(alone, "ours", [91, 92, 93, 80])


@pytest.mark.parametrize(
    "namespace", ["", "a\x1f5\x1fb", Segments("", 3, ""), Segments("a\x1f", 2, "b\x1f7\x1fc"), Segments("a", 1, "\x1f")]
)
def test_a_node_knows_its_namespace(namespace: Namespace, store: Callable[..., list[int]], cache: PrefixCache) -> None:
    store(cache, [1, 2, 3, 4, 5], namespace)
    found = {namespace_of_node(node) for node in cache.walk()}
    public = namespace.public if isinstance(namespace, Segments) else namespace
    assert found == {namespace, public}
    assert cache.drop(namespace) > 0
    assert all(not node.private for node in cache.walk())
