"""A GPU that is not there: torch runs its host's side, and what would reach the device is written down.

Tensors of the device are torch's meta tensors: shapes without memory. Two of torch's modes stand before every
operation of a thread that is `here`: one calls meta tensors CUDA tensors, the other counts what would be launched,
sent, fetched and waited for. What is fetched is `TOKEN`, or -1.0 where numbers are floats. Streams, events and graphs
of torch.cuda are replaced by ones that count; a graph keeps what is launched while it is captured, and its replay
counts as one launch.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)
META = torch.device("meta")
TOKEN = 65
"""What every fetched integer is: the token that everybody samples."""

FREE_BYTES = 80 << 30
NO_LAUNCH = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "lift_fresh", "alias",
    "_unsafe_view", "_reshape_alias", "scalar_tensor", "set_", "resize_",
}  # fmt: skip
"""Operations that launch nothing, besides views."""

TWO_LAUNCHES = {"addmm", "addbmm", "baddbmm"}
"""A copy of what is added to, and a product: torch does so unless both are the same tensor."""


@dataclass(slots=True)
class Tally:
    """What reached the device. launches: by kernel. replayed: kernels inside graphs. waits: by what was waited for."""

    launches: Counter[str] = field(default_factory=Counter)
    replays: int = 0
    replayed: Counter[str] = field(default_factory=Counter)
    recordings: int = 0
    uploads: int = 0
    uploaded_bytes: int = 0
    downloads: int = 0
    downloaded_bytes: int = 0
    waits: Counter[str] = field(default_factory=Counter)
    counting: float = 0.0  # seconds that counting took

    def since(self, before: Tally) -> Tally:
        """What came since."""
        return Tally(*(getattr(self, name) - getattr(before, name) for name in Tally.__slots__))

    def copy(self) -> Tally:
        values = (getattr(self, name) for name in Tally.__slots__)
        return Tally(*(value.copy() if isinstance(value, Counter) else value for value in values))


class PretendedGPU:
    """Counts for all threads that are `here`. multiprocessors: of the GPU that it seems to be, an H100.

    order: what was asked of streams and graphs as wholes: ("wait", who, for whom), ("capture", graph, stream, pool),
    ("replay", graph), ("reset", graph), ("synchronize", stream), or ("synchronize",) of the device.
    """

    def __init__(self, multiprocessors: int = 132) -> None:
        self.tally = Tally()
        self.multiprocessors = multiprocessors
        self.order: list[tuple[Any, ...]] = []
        self.num_pools = 0
        self._captured: Counter[str] | None = None
        self._pinned: set[int] = set()
        self._currents = threading.local()
        self._first = _Stream(self)

    @contextmanager
    def here(self) -> Iterator[None]:
        """This thread's tensors and launches are the pretended GPU's."""
        with _Counting(self), _Naming(self):
            yield

    @contextmanager
    def instead_of_cuda(self) -> Iterator[None]:
        """torch.cuda is the pretended GPU's, in all threads."""
        with contextlib.ExitStack() as stack:
            for name, value in _cuda(self).items():
                stack.enter_context(patch.object(torch.cuda, name, value, create=True))
            yield

    def launch(
        self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], num_warps: int, num_stages: int
    ) -> None:
        """A `Launcher` of the Triton back end."""
        self.launched(kernel.__name__)

    def launched(self, name: str, count: int = 1) -> None:
        (self.tally.launches if self._captured is None else self._captured)[name] += count

    def waited(self, why: str) -> None:
        assert self._captured is None, f"{why} waits for the device while a graph is captured"
        self.tally.waits[why] += 1

    def sent(self, num_bytes: int, pinned: bool) -> None:
        """From pageable memory torch waits for the copy, and the copy for all before it."""
        assert self._captured is None, "an upload while a graph is captured"
        self.tally.uploads += 1
        self.tally.uploaded_bytes += num_bytes
        if not pinned:
            self.waited("pageable upload")

    def fetched(self, like: torch.Tensor, waits: bool) -> None:
        self.tally.downloads += 1
        self.tally.downloaded_bytes += like.numel() * like.element_size()
        if waits:
            self.waited("download")

    @property
    def current(self) -> _Stream:
        """The thread's stream."""
        found: _Stream = getattr(self._currents, "stream", self._first)
        return found

    @contextmanager
    def on(self, stream: _Stream) -> Iterator[None]:
        outer, self._currents.stream = self.current, stream
        try:
            yield
        finally:
            self._currents.stream = outer

    def new_pool(self) -> tuple[int, int]:
        self.num_pools += 1
        return (0, self.num_pools)

    @contextmanager
    def capturing(self, graph: _Graph, pool: Any = None, stream: Any = None) -> Iterator[None]:
        assert self._captured is None, "a capture inside of another one"
        self.tally.recordings += 1
        self.order.append(("capture", graph, stream, pool))
        self._captured = graph.launches = Counter()
        try:
            yield
        finally:
            self._captured = None

    def replay(self, graph: _Graph) -> None:
        self.tally.replays += 1
        self.order.append(("replay", graph))
        self.tally.replayed += graph.launches

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self._pinned.add(_memory(tensor))
        return tensor

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return _memory(tensor) in self._pinned


def _memory(tensor: torch.Tensor) -> int:
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        return tensor.untyped_storage().data_ptr()


def _fill(shape: Any, dtype: torch.dtype) -> torch.Tensor:
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        return torch.full(tuple(shape), -1.0 if dtype.is_floating_point else TOKEN, dtype=dtype)


def _is_meta(value: Any) -> bool:
    with torch._C.DisableTorchFunction():
        return isinstance(value, torch.Tensor) and value.is_meta


def _is_cuda(value: Any) -> bool:
    return (isinstance(value, torch.device) and value.type == "cuda") or (
        isinstance(value, str) and value.partition(":")[0] == "cuda"
    )


class _Naming(TorchFunctionMode):
    """Meta tensors are CUDA tensors to whoever asks; whatever reads their numbers is counted and gets constants."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self._gpu = gpu
        tensor = torch.Tensor
        self._getters: dict[Any, Callable[[torch.Tensor], Any]] = {
            tensor.device.__get__: lambda x: DEVICE,  # type: ignore[attr-defined]
            tensor.is_cuda.__get__: lambda x: True,  # type: ignore[attr-defined]
            tensor.is_meta.__get__: lambda x: False,  # type: ignore[attr-defined]
            tensor.data_ptr: lambda x: (1 << 20) + x.storage_offset() * x.element_size(),
        }
        self._reads = {
            tensor.tolist, tensor.item, tensor.__bool__, tensor.__int__, tensor.__float__, tensor.__index__,
        }  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if args and _is_meta(args[0]):
            if func in self._getters:
                return self._getters[func](args[0])
            if func in self._reads:
                self._gpu.fetched(args[0], waits=True)
                return func(_fill(args[0].shape, args[0].dtype))
        if func is torch.Tensor.copy_ and (_is_meta(args[0]) or _is_meta(args[1])):
            return self._copy(*args, **kwargs)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and _is_meta(args[0]):
            for index in args[1] if isinstance(args[1], tuple) else (args[1],):
                if isinstance(index, list):
                    self._gpu.sent(8 * len(index), pinned=False)
        if func in (torch.tensor, torch.as_tensor) and _is_cuda(kwargs.get("device")):
            made = func(*args, **{**kwargs, "device": "cpu"})
            return made.to(META)
        if func is torch.Tensor.is_pinned:
            return self._gpu.is_pinned(args[0])
        if func is torch.Tensor.pin_memory:
            return self._gpu.pin(args[0].clone())
        args, kwargs = tree_map(lambda value: META if _is_cuda(value) else value, (args, kwargs))
        if kwargs.pop("pin_memory", False):
            return self._gpu.pin(func(*args, **kwargs))
        return func(*args, **kwargs)

    def _copy(self, target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        if _is_meta(target) and _is_meta(source):
            self._gpu.launched("copy_")
        elif _is_meta(target):
            self._gpu.sent(source.numel() * source.element_size(), non_blocking and self._gpu.is_pinned(source))
        else:
            self._gpu.fetched(source, not (non_blocking and self._gpu.is_pinned(target)))
            with _disable_current_modes(), torch._C.DisableTorchFunction():
                target.copy_(_fill(target.shape, target.dtype))
        return target


class _Counting(TorchDispatchMode):
    """Counts torch's own operations on the device, and what they take from the host."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        started = time.thread_time()
        try:
            return self._count(func, args, dict(kwargs or {}))
        finally:
            self._gpu.tally.counting += time.thread_time() - started

    def _count(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = any(_is_meta(tensor) for tensor in tensors)
        to = kwargs.get("device")
        if not on_device and to != META:
            return func(*args, **kwargs)
        if name in ("_to_copy", "to") and on_device and to is not None and to.type == "cpu":
            self._gpu.fetched(tensors[0], waits=True)
            return _fill(tensors[0].shape, kwargs.get("dtype") or tensors[0].dtype)
        if name == "_local_scalar_dense":
            self._gpu.fetched(tensors[0], waits=True)
            return _fill((), tensors[0].dtype).item()
        if from_host := name == "_to_copy" and not on_device:
            is_pinned = bool(kwargs.get("non_blocking")) and self._gpu.is_pinned(tensors[0])
            self._gpu.sent(tensors[0].numel() * tensors[0].element_size(), is_pinned)
        else:
            args, kwargs = tree_map(self._lift, (args, kwargs))
        if not (from_host or func.is_view or name in NO_LAUNCH):
            self._gpu.launched(name, 2 if name in TWO_LAUNCHES else 1)
        return func(*args, **kwargs)

    def _lift(self, value: Any) -> Any:
        """An operand that is still on the host: a number goes with the launch, an array is sent."""
        if not isinstance(value, torch.Tensor) or _is_meta(value) or value.dim() == 0:
            return value
        self._gpu.sent(value.numel() * value.element_size(), pinned=False)
        return torch.empty_like(value, device=META)


class _Graph:
    """torch.cuda.CUDAGraph."""

    def __init__(self, gpu: PretendedGPU) -> None:
        self._gpu, self.launches = gpu, Counter[str]()

    def replay(self) -> None:
        self._gpu.replay(self)

    def pool(self) -> tuple[int, int]:
        return (0, 0)

    def reset(self) -> None:
        assert self._gpu._captured is None, "a graph ends while another one is captured"
        self._gpu.order.append(("reset", self))
        self.launches = Counter()


class _Stream:
    """torch.cuda.Stream: whatever is launched is counted, wherever."""

    def __init__(self, gpu: PretendedGPU) -> None:
        self._gpu, self.device = gpu, DEVICE

    def synchronize(self) -> None:
        self._gpu.order.append(("synchronize", self))
        self._gpu.waited("stream")

    def record_event(self, event: Any = None) -> Any:
        return _Event(self._gpu) if event is None else event

    def wait_stream(self, stream: Any) -> None:
        """The device waits, not the host."""
        self._gpu.order.append(("wait", self, stream))

    def wait_event(self, _event: Any) -> None:
        """The device waits, not the host."""

    def query(self) -> bool:
        return True


class _Event:
    """torch.cuda.Event."""

    def __init__(self, gpu: PretendedGPU) -> None:
        self._gpu = gpu

    def record(self, _stream: Any = None) -> None:
        """Costs nothing that is counted."""

    def wait(self, _stream: Any = None) -> None:
        """The device waits, not the host."""

    def synchronize(self) -> None:
        self._gpu.waited("event")

    def query(self) -> bool:
        return True

    def elapsed_time(self, _end: Any) -> float:
        return 1.0


def _cuda(gpu: PretendedGPU) -> dict[str, Any]:
    """What stands for the functions and classes of torch.cuda."""
    properties = SimpleNamespace(
        name="pretended H100", major=9, minor=0, total_memory=FREE_BYTES, warp_size=32,
        multi_processor_count=gpu.multiprocessors, L2_cache_size=50 << 20,
    )  # fmt: skip

    @contextmanager
    def graph(cuda_graph: _Graph, pool: Any = None, stream: Any = None, **__: Any) -> Iterator[None]:
        with gpu.on(stream or gpu.current), gpu.capturing(cuda_graph, pool, stream):
            yield

    def synchronize(*_: Any) -> None:
        gpu.order.append(("synchronize",))
        gpu.waited("device")

    @contextmanager
    def nothing(*_: Any, **__: Any) -> Iterator[None]:
        yield

    return {
        "CUDAGraph": lambda *_, **__: _Graph(gpu),
        "Event": lambda *_, **__: _Event(gpu),
        "Stream": lambda *_, **__: _Stream(gpu),
        "current_device": lambda: 0,
        "current_stream": lambda *_: gpu.current,
        "default_stream": lambda *_: gpu._first,
        "device": nothing,
        "device_count": lambda: 1,
        "empty_cache": lambda: None,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: properties.name,
        "get_device_properties": lambda *_: properties,
        "graph": graph,
        "graph_pool_handle": gpu.new_pool,
        "init": lambda: None,
        "is_available": lambda: True,
        "is_current_stream_capturing": lambda: gpu._captured is not None,
        "is_initialized": lambda: True,
        "max_memory_allocated": lambda *_: 0,
        "mem_get_info": lambda *_: (FREE_BYTES, FREE_BYTES),
        "memory_allocated": lambda *_: 0,
        "memory_reserved": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "set_device": lambda *_: None,
        "set_stream": lambda *_: None,
        "stream": gpu.on,
        "synchronize": synchronize,
    }
