"""The cache as a file: what comes back is what was there, for any pool of the same model and for no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.errors import CacheFileError
from stemma.runtime.model import LoadedModel
from stemma.runtime.model.tiny import tiny

LONG = list(range(1, 60))


def fill(engine: Engine) -> list[list[int]]:
    prompts = [[*LONG, 7, 8], [*LONG, 9], [*LONG[:20], 5, 5, 5], [3, 3, 3]]
    for prompt in prompts:
        engine.generate(prompt, max_tokens=5, ignore_eos=True)
    return prompts


def test_a_cache_comes_back_and_goes_on_as_before(loaded: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "cache.kv"
    with Engine.of(loaded, kv_tokens=4096, block_size=4) as engine:
        prompts = fill(engine)
        longer = [[*prompt, *engine.generate(prompt, max_tokens=5, ignore_eos=True).tokens, 11] for prompt in prompts]
        expected = [engine.generate(prompt, max_tokens=6, ignore_eos=True) for prompt in longer]
        saved = engine.save_cache(path)
        assert saved.num_bytes == path.stat().st_size
    with Engine.of(loaded, kv_tokens=1024, block_size=4) as engine:
        found = engine.load_cache(path)
        assert (found.num_paths, found.num_tokens, found.num_skipped) == (saved.num_paths, saved.num_tokens, 0)
        engine.with_cache(lambda cache: cache.check())
        before = engine.stats().cache
        for prompt, completion in zip(longer, expected, strict=True):
            again = engine.generate(prompt, max_tokens=6, ignore_eos=True)
            assert again.tokens == completion.tokens
            assert again.usage.cached_tokens == len(prompt) - 1
        assert before.hit_tokens == 0
        assert engine.load_cache(path).num_skipped == 0  # what is there already stays
        engine.with_cache(lambda cache: cache.check())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=14), min_size=1, max_size=8),
    st.sampled_from([1, 3, 4]),
    st.integers(8, 60),
)
def test_any_tree_into_any_pool(
    tiny_loaded: LoadedModel, tmp_path: Path, prompts: list[list[int]], block_size: int, num_blocks: int
) -> None:
    """All of it comes back if there is room; what is left out for want of room is counted; nothing is wrong."""
    path = tmp_path / "any.kv"
    with Engine.of(tiny_loaded, kv_tokens=1200, block_size=block_size) as engine:
        expected = []
        for number, prompt in enumerate(prompts):
            options = {"namespace": str(number % 2), "max_tokens": 2, "ignore_eos": True}
            expected.append(engine.generate(prompt, **options).tokens)  # type: ignore[arg-type]
        saved = engine.save_cache(path)
    with Engine.of(tiny_loaded, kv_tokens=max(num_blocks, 34) * block_size, block_size=block_size) as engine:
        loaded = engine.load_cache(path)
        assert loaded.num_tokens == saved.num_tokens
        engine.with_cache(lambda cache: cache.check())
        cached = engine.stats().cache
        if loaded.num_skipped:
            assert cached.free < 16  # what the longest path takes
        for number, (prompt, tokens) in enumerate(zip(prompts, expected, strict=True)):
            again = engine.generate(prompt, namespace=str(number % 2), max_tokens=2, ignore_eos=True)
            assert again.tokens == tokens
            if not loaded.num_skipped:
                assert again.usage.cached_tokens == len(prompt) - 1
        engine.with_cache(lambda cache: cache.check())


def test_only_the_namespaces_that_are_wanted(tiny_loaded: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "cache.kv"
    with Engine.of(tiny_loaded, kv_tokens=1024) as engine:
        for namespace in ("a", "b", "c"):
            engine.generate(LONG, max_tokens=0, namespace=namespace)
        engine.save_cache(path, owns=lambda name: name != "c")
    with Engine.of(tiny_loaded, kv_tokens=1024) as engine:
        assert engine.load_cache(path, owns=lambda name: name != "b").num_paths == 1
        names = engine.with_cache(lambda cache: {node.scope for node in cache.walk()})
        assert names == {"a"}


def test_what_does_not_fit_is_refused_with_nothing_changed(tiny_loaded: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "cache.kv"
    with Engine.of(tiny_loaded, kv_tokens=1024) as engine:
        fill(engine)
        engine.save_cache(path)
        good = path.read_bytes()
        with pytest.raises(CacheFileError, match="more than 1,000 bytes"):
            engine.save_cache(path, max_bytes=1000)
        assert path.read_bytes() == good
        assert [each.name for each in tmp_path.iterdir()] == ["cache.kv"]
        for bad, message in (
            (good[:-1], "damaged"),
            (good[:100] + b"?" + good[101:], "damaged"),
            (b"no", "no saved cache"),
        ):
            path.write_bytes(bad)
            with pytest.raises(CacheFileError, match=message):
                engine.load_cache(path)
        with pytest.raises(CacheFileError, match="there is no saved cache"):
            engine.load_cache(tmp_path / "other.kv")
        path.write_bytes(good)
    with (
        Engine.of(tiny_loaded, kv_tokens=1024, block_size=8) as other_blocks,
        pytest.raises(CacheFileError, match="engine with kv"),
    ):
        other_blocks.load_cache(path)
    other = tiny(ReferenceOps(torch.device("cpu"), torch.float64), seed=1)
    with Engine.of(other, kv_tokens=1024) as engine:
        with pytest.raises(CacheFileError, match="other weights"):
            engine.load_cache(path)
        assert engine.stats().cache.cached == 0
