"""Kernels that not every model needs, one for each way in which weights are stored: compiled when the first one asks.

Products of a kind of packed weight, what reads a file's blocks of it, and rows of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stemma.kernels.codes import FORMS
from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.products.blocks import BLOCKS
from stemma.kernels.cpu.products.lay import add_lay
from stemma.kernels.cpu.products.linear import add_product
from stemma.kernels.cpu.products.pack import kind_of
from stemma.kernels.cpu.products.read import add_read
from stemma.kernels.cpu.rows.embed import add_embed
from stemma.kernels.weights import StoredWeight


class WeightKernels:
    """Addresses of native code by name; it stays as long as this object."""

    def __init__(self, target: Target, cache_dir: Path) -> None:
        self._target = target
        self._cache_dir = cache_dir
        self._libraries: list[compile.Library] = []
        self._addresses: dict[str, int] = {}

    def kernels_of(self, parts: Sequence[StoredWeight]) -> dict[str, int]:
        """What packs and multiplies these."""
        kinds = [kind_of(part, self._target) for part in parts]
        kernels = {f"multiply_{kind}": self._product_of(kind) for kind in kinds}
        return kernels | dict(
            self._reader_of(part, kind) for part, kind in zip(parts, kinds, strict=True) if kind in FORMS
        )

    def embed_of(self, type_: str) -> int:
        return self._kernel_of(f"embed_{type_}", lambda module: add_embed(module, type_))

    def _product_of(self, kind: str) -> int:
        return self._kernel_of(f"multiply_{kind}", lambda module: add_product(module, self._target, kind))

    def _reader_of(self, weight: StoredWeight, kind: str) -> tuple[str, int]:
        """What reads blocks of a type; where numpy does, what lays the codes that it finds."""
        type_ = weight.type
        if type_ in BLOCKS:
            name = f"read_{type_}"
            return name, self._kernel_of(name, lambda module: add_read(module, type_, kind))
        return f"lay_{kind}", self._kernel_of(f"lay_{kind}", lambda module: add_lay(module, kind))

    def _kernel_of(self, name: str, write: compile.Generate) -> int:
        if name not in self._addresses:
            library = compile.load(name, write, self._target, (name,), self._cache_dir)
            self._libraries.append(library)
            self._addresses[name] = library.address(name)
        return self._addresses[name]
