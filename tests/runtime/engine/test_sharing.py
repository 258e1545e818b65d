"""Texts that all namespaces share: found whole by everybody, always, and what is found tells of nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from stemma.radix import Reason
from stemma.runtime.errors import InvalidRequest, PinRefused

TEXT = list(range(1, 38))  # ends inside a block
LONGER = [*TEXT, 91, 92, 93, 94, 95]
ASK = [*TEXT, 50, 51, 52]


@pytest.fixture
def share(make):
    """Texts that are let go when the test ends."""
    shared = []

    def build(engine, *texts, **options):
        shared.extend(engine.share(text, **options) for text in texts)
        return shared[-len(texts) :]

    yield build
    for text in shared:
        text.release()


def cached(engine, prompt, namespace="a", **options):
    return engine.generate(prompt, max_tokens=2, namespace=namespace, **options).usage.cached_tokens


def test_every_namespace_finds_a_shared_text_at_its_first_request(make, share):
    engine = make()
    plain = engine.generate(ASK, max_tokens=6, namespace="before").tokens
    share(engine, TEXT)
    for namespace in ("a", "b", "b/salt", ""):
        answer = engine.generate(ASK, max_tokens=6, namespace=namespace)
        assert answer.usage.cached_tokens == len(TEXT)
        assert answer.tokens == plain
    assert cached(engine, ASK, "a") == len(ASK) - 1
    assert cached(engine, TEXT, "c") == len(TEXT) - 1
    assert cached(engine, TEXT[:-1], "c") == 0  # not even a beginning of it without all of it


def test_the_longest_shared_text_counts(make, share):
    engine = make()
    share(engine, LONGER, TEXT, [7])
    assert cached(engine, [*LONGER, 5]) == len(LONGER)
    assert cached(engine, [*LONGER[:-1], 5]) == len(TEXT)
    assert cached(engine, [7, 8]) == 1
    engine.with_cache(lambda cache: cache.check())


def test_what_follows_is_each_namespaces_own(make, share):
    engine = make()
    share(engine, TEXT)
    assert cached(engine, ASK, "a") == len(TEXT)
    assert cached(engine, ASK, "b") == len(TEXT)
    found = engine.explain(ASK, "c", looks_elsewhere=False)
    assert (found.hit_len, found.reason, found.expected) == (len(TEXT), Reason.NEVER_SEEN, ())


def test_nothing_is_shared_that_was_not_named(make, share):
    engine = make()
    share(engine, LONGER)
    for namespace in ("a", "b"):
        assert cached(engine, ASK, namespace) == 0  # it begins as LONGER does, and is not LONGER
    # one that would compute a part of it does so for itself
    assert cached(engine, [*LONGER, 1], "c", prompt_logprobs=0, scored_from=5) == 0
    assert {node.namespace for node in engine.tree()} == {"//shared", "a", "b", "c"}


def world(make, before) -> dict[str, Any]:
    """All that one namespace can see of itself, after these requests of another one's."""
    engine = make(kv_tokens=8192, drafts_from=("none",))  # how much is guessed hangs on the time that steps take
    shared = [engine.share(LONGER), engine.share(TEXT)]
    for prompt in before:
        engine.generate(prompt, max_tokens=5, namespace="other")
    seen = []
    for prompt in (ASK, [*LONGER, 1, 2], [9, 9, 9], ASK):
        steps = engine.stats().metrics.num_step_tokens
        found = engine.explain(prompt, "ours", looks_elsewhere=False)
        answer = engine.generate(prompt, max_tokens=5, namespace="ours")
        computed = engine.stats().metrics.num_step_tokens - steps
        seen.append((found, answer.tokens, answer.usage, computed))
    own = [(node.start, node.end, node.owned, node.hits, node.ref_count) for node in engine.with_cache(list_walk)
           if node.scope.endswith("ours")]  # fmt: skip
    for text in shared:
        text.release()
    return {"answers": seen, "nodes": sorted(own)}


def list_walk(cache):
    return list(cache.walk())


def test_what_a_namespace_sees_and_costs_is_the_same_whatever_another_has_asked(make):
    alone = world(make, [])
    assert len(alone["nodes"]) >= 3
    for before in ([ASK, [*LONGER, 1, 2], [9, 9, 9]], [TEXT, LONGER], [[*TEXT, 50, 51, 53], [*LONGER[:-1], 1]]):
        assert world(make, before) == alone


def test_a_text_is_there_again_after_the_cache_was_cleared(make, share):
    engine = make()
    share(engine, TEXT, LONGER)
    cached(engine, ASK, "a")
    engine.with_cache(lambda cache: cache.clear())
    assert cached(engine, ASK, "a") == 0  # what is shared is for its owner to compute
    assert cached(engine, ASK, "b") == 0
    engine.shared.renew()
    assert cached(engine, [*ASK, 3], "b") == len(TEXT)
    assert cached(engine, [*LONGER, 3], "b") == len(LONGER)


def test_a_text_that_is_released_is_shared_no_more(make, share):
    engine = make()
    (text,) = share(engine, TEXT)
    assert text.num_tokens == len(TEXT)
    assert cached(engine, ASK, "a") == len(TEXT)
    text.release()
    assert cached(engine, ASK, "b") == 0
    assert engine.stats().cache.leased == 0


def test_what_cannot_be_shared_is_refused(make, share):
    engine = make(kv_tokens=1024, pin_share=0.1)
    with pytest.raises(PinRefused):
        share(engine, list(range(200)))
    with pytest.raises(InvalidRequest):
        engine.share([10_000])
    with pytest.raises(InvalidRequest, match="adapter"):
        engine.share(TEXT, lora="none")
    with pytest.raises(InvalidRequest, match="shared"):
        engine.generate(TEXT, namespace="//shared")
    with pytest.raises(InvalidRequest, match="prefix_cache"):
        make(prefix_cache=False).share(TEXT)
    assert engine.stats().cache.leased == 0


def test_what_follows_a_shared_text_is_saved_and_loaded(make, share, tmp_path):
    engine, other = make(), make()
    share(engine, TEXT)
    cached(engine, ASK, "a")
    cached(engine, ASK, "b")
    saved = engine.save_cache(tmp_path / "a", owns=lambda name: name == "a")
    assert engine.save_cache(tmp_path / "shared", owns=lambda name: name.startswith("//")).num_paths == 0
    assert other.load_cache(tmp_path / "a").num_skipped == saved.num_tokens  # where the text is not shared
    share(other, TEXT)
    assert other.load_cache(tmp_path / "a").num_skipped == 0
    assert cached(other, [*ASK, 1], "a") == len(ASK)
    assert cached(other, [*ASK, 1], "b") == len(TEXT)
