"""The peers of benchmarks/radix.py, driven through the same cycle. Used by the benchmark alone.

SGLang's wheel is unpacked into a folder under ~/.cache/stemma-bench. Its Rust tree core is an extension module that
needs nothing but torch; its Python RadixCache is loaded with stand-ins for the modules of the server around it.
"""

import importlib.util
import subprocess
import sys
import types
from array import array
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Protocol

import torch
from radix_traces import Request

SGLANG = "sglang==0.5.23"
HOME = Path.home() / ".cache" / "stemma-bench"


class Peer(Protocol):
    """One cache under test: the whole cycle of one request, and one eviction."""

    name: str

    def prepare(self, request: Request) -> Any:
        """The request in the form that the peer takes, made outside the timing."""

    def serve(self, prepared: Any) -> None:
        """Match, gather, lock, make room, insert, unlock."""

    def evict(self, num_tokens: int) -> None: ...

    def hit_tokens(self) -> int: ...


def sglang_folder() -> Path:
    """The unpacked wheel, fetched by name from PyPI when it is not there."""
    folder = HOME / SGLANG
    if not (folder / "sglang").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*pip, SGLANG], check=True)
    return folder


def load_rust_core() -> Any:
    """SGLang's Rust tree core by itself."""
    name = "sglang.srt.mem_cache.rust_tree_core.mem_cache"
    (path,) = (sglang_folder() / "sglang/srt/mem_cache/rust_tree_core").glob("mem_cache.*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PreparedForSGLang:
    """int64 arrays, as SGLang keeps token ids."""

    def __init__(self, request: Request) -> None:
        prompt = request.prompt.tolist()
        self.prompt = array("q", prompt)
        self.full = array("q", prompt + request.output.tolist())


class Pages:
    """A free list of pages in a tensor, as SGLang's paged allocator keeps it: slots out, slots back."""

    device = "cpu"

    def __init__(self, num_pages: int, page_size: int) -> None:
        self._free = torch.arange(num_pages, dtype=torch.int64)
        self._page_size = page_size
        self._within = torch.arange(page_size, dtype=torch.int64)

    @property
    def num_free(self) -> int:
        """In tokens."""
        return len(self._free) * self._page_size

    def take(self, num_tokens: int) -> torch.Tensor:
        pages = self._free[: num_tokens // self._page_size]
        self._free = self._free[num_tokens // self._page_size :]
        return (pages[:, None] * self._page_size + self._within).reshape(-1)

    def free_segment(self, slots: torch.Tensor, start_pos: int = 0) -> None:
        self._free = torch.cat([self._free, slots[:: self._page_size] // self._page_size])


class RustBinding:
    """SGLang's Rust tree core by its extension module alone, LRU: less than SGLang itself does per request."""

    name = "SGLang Rust binding"

    def __init__(self, pool_tokens: int, page_size: int) -> None:
        self._module = load_rust_core()
        params = self._module.TreeCoreInitParamsBinding(eviction_policy="lru", page_size=page_size)
        self._core = self._module.RustUnifiedTreeCoreBinding(params, [0])
        self._root = self._core.root_node_handle()
        self._pages, self._page_size, self._hits = Pages(pool_tokens // page_size, page_size), page_size, 0

    def prepare(self, request: Request) -> PreparedForSGLang:
        return PreparedForSGLang(request)

    def serve(self, prepared: PreparedForSGLang) -> None:
        core, module, pages = self._core, self._module, self._pages
        match = core.match_prefix(module.MatchParamsBinding(key=prepared.prompt))
        node, hit = match.last_device_node_id, match.device_prefix_len
        gathered = core.collect_full_device_indices(node, self._root)
        lock = core.inc_lock_ref(node, [])
        self._hits += hit
        needed = len(prepared.full) // self._page_size * self._page_size - hit
        if needed > pages.num_free:
            self.evict(needed - pages.num_free)
        value = torch.cat([gathered, pages.take(needed)])
        core.insert(module.InsertParamsBinding(key=prepared.full, value=value, prev_prefix_len=hit))
        receipt = module.DecLockRefParamsBinding(
            node_id=lock.node_id,
            skipped_lock_components=lock.skipped_lock_components,
            component_lock_uuids=lock.component_lock_uuids,
            component_host_lock_uuids=lock.component_host_lock_uuids,
        )
        core.dec_lock_ref(node, receipt, False)

    def evict(self, num_tokens: int) -> None:
        core, freed = self._core, 0
        core.evict_device_start(0, num_tokens)
        while True:
            step = core.evict_device_next_node(0, {0: freed})
            freed += self._freed(step)
            if step.node_id is not None:
                freed += self._freed(core.evict_device_leaf(step.node_id))
            elif not step.made_progress:
                break
        core.evict_device_end(0)

    def _freed(self, step: Any) -> int:
        for slots in step.new_device_frees.get(0, ()):
            self._pages.free_segment(slots)
        return int(step.tracker.get(0, 0))

    def hit_tokens(self) -> int:
        return self._hits


class RustCore:
    """SGLang's Rust tree core, LRU, by the class that SGLang's cache drives it with (RustUnifiedTreeCore)."""

    name = "SGLang Rust core"

    def __init__(self, pool_tokens: int, page_size: int) -> None:
        self._face = load_python_cache()
        adapter = importlib.import_module("sglang.srt.mem_cache.rust_tree_core.adapter")
        settings = importlib.import_module("sglang.srt.mem_cache.cache_init_params")
        components = importlib.import_module("sglang.srt.mem_cache.unified_cache.component_type")
        self._full = components.ComponentType.FULL
        params = settings.CacheInitParams(False, None, None, page_size)
        params.tree_components = (self._full,)
        self._core = adapter.RustUnifiedTreeCore(params)
        self._root = self._core.root_node_handle()
        self._pages, self._page_size, self._hits = Pages(pool_tokens // page_size, page_size), page_size, 0

    def prepare(self, request: Request) -> PreparedForSGLang:
        return PreparedForSGLang(request)

    def serve(self, prepared: PreparedForSGLang) -> None:
        face, core, pages = self._face, self._core, self._pages
        match = core.match_prefix(face.MatchPrefixParams(key=face.RadixKey(prepared.prompt)))
        node, hit = match.last_device_node, match.device_prefix_len
        gathered = core.collect_full_device_indices(node, self._root)
        lock = core.inc_lock_ref(node)
        self._hits += hit
        needed = len(prepared.full) // self._page_size * self._page_size - hit
        if needed > pages.num_free:
            self.evict(needed - pages.num_free)
        value = torch.cat([gathered, pages.take(needed)])
        step = core.begin_insert(face.InsertParams(key=face.RadixKey(prepared.full), value=value, prev_prefix_len=hit))
        while step.result is None:
            step = core.resume_insert()
        core.end_insert()
        core.dec_lock_ref(node, lock.to_dec_params())

    def evict(self, num_tokens: int) -> None:
        core, tracker = self._core, {self._full: 0}
        core.evict_device_start(self._full, num_tokens)
        while True:
            step = core.evict_device_next_node(self._full, tracker)
            self._freed(step, tracker)
            if step.node_id is not None:
                self._freed(core.evict_device_leaf(step.node_id, False), tracker)
            elif not step.made_progress:
                break
        core.evict_device_end(self._full)

    def _freed(self, step: Any, tracker: dict[Any, int]) -> None:
        tracker[self._full] += step.tracker.get(self._full, 0)
        for slots in step.device_frees.get(self._full, ()):
            self._pages.free_segment(slots)
        step.device_frees.clear()  # as SGLang's controller does
        step.cache_actions.clear()

    def hit_tokens(self) -> int:
        return self._hits


class _StandIn(types.ModuleType):
    """A module in which every name exists and does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **kwargs: None, "enabled": False, "__call__": _nothing})


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


class _SGLangFinder(MetaPathFinder, Loader):
    """Loads the few real modules of the radix cache and stands in for the rest of the server."""

    REAL = (
        "radix_cache",
        "base_prefix_cache",
        "cache_init_params",
        "evict_policy",
        "rust_tree_core.adapter",
        "unified_cache.cache_action",
        "unified_cache.component_type",
        "unified_cache.unified_tree_core_interface",
    )

    def __init__(self, folder: Path) -> None:
        self._real = {f"sglang.srt.mem_cache.{name}": name.replace(".", "/") + ".py" for name in self.REAL}
        self._folder = folder / "sglang/srt/mem_cache"

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "sglang" and not name.startswith("sglang."):
            return None
        if name in self._real:
            return importlib.util.spec_from_file_location(name, self._folder / self._real[name])
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ == "sglang.srt.mem_cache.events":
            module.KVCacheEventRecorder = _QuietRecorder  # type: ignore[attr-defined]
        if module.__name__ == "sglang.srt.mem_cache.rust_tree_core.extension":
            module.bindings = load_rust_core()  # type: ignore[attr-defined]
        if module.__name__ == "sglang.srt.mem_cache.utils":
            policies = importlib.import_module("sglang.srt.mem_cache.evict_policy")
            module.get_eviction_strategy = lambda name, config: policies.LRUStrategy()  # type: ignore[attr-defined]
            module.split_node_hash_value = lambda *args: (None, None)  # type: ignore[attr-defined]


class _QuietRecorder:
    """No events, as SGLang runs by default."""

    enabled = False

    def __init__(self, **settings: Any) -> None:
        pass

    def record_all_cleared(self) -> None:
        pass

    def record_store(self, *args: Any, **settings: Any) -> None:
        pass

    def record_remove(self, *args: Any, **settings: Any) -> None:
        pass


def load_python_cache() -> Any:
    """SGLang's RadixCache module."""
    if not any(isinstance(finder, _SGLangFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SGLangFinder(sglang_folder()))
    return importlib.import_module("sglang.srt.mem_cache.radix_cache")


class PythonCache:
    """SGLang's RadixCache in Python, LRU."""

    name = "SGLang Python"

    def __init__(self, pool_tokens: int, page_size: int) -> None:
        self._face = load_python_cache()
        self._pages, self._page_size, self._hits = Pages(pool_tokens // page_size, page_size), page_size, 0
        self._cache = self._face.RadixCache.create_simulated(mock_allocator=self._pages, page_size=page_size)

    def prepare(self, request: Request) -> PreparedForSGLang:
        return PreparedForSGLang(request)

    def serve(self, prepared: PreparedForSGLang) -> None:
        face, cache, pages = self._face, self._cache, self._pages
        match = cache.match_prefix(face.MatchPrefixParams(key=face.RadixKey(prepared.prompt)))
        node, hit = match.last_device_node, match.device_prefix_len
        gathered = cache.path_device_indices(node)
        cache.inc_lock_ref(node)
        self._hits += hit
        needed = len(prepared.full) // self._page_size * self._page_size - hit
        if needed > pages.num_free:
            self.evict(needed - pages.num_free)
        value = torch.cat([gathered, pages.take(needed)])
        cache.insert(face.InsertParams(key=face.RadixKey(prepared.full), value=value))
        cache.dec_lock_ref(node)

    def evict(self, num_tokens: int) -> None:
        self._cache.evict(self._face.EvictParams(num_tokens=num_tokens))

    def hit_tokens(self) -> int:
        return self._hits


PEERS: tuple[Callable[[int, int], Peer], ...] = (RustCore, RustBinding, PythonCache)
