"""Tables of a vocabulary on disk, in the user's cache directory: named arrays, written whole or not at all.

A file that cannot be read or written is as good as none: the tables are built again. It never asks what they mean.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from stemma.cache_folder import cache_folder

FORMAT = 3  # of the tables; another number leaves old files alone
MAX_FILES = 48  # of one vocabulary

Arrays = Mapping[str, npt.NDArray[Any]]


class DiskCache:
    """The files of one vocabulary."""

    def __init__(self, key: str) -> None:
        self._saving: list[threading.Thread] = []
        self.folder = cache_folder() / "fsm" / f"{key[:32]}-{FORMAT}"

    def load(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as file:
                return dict(file)
        except Exception:  # of a damaged file, whatever numpy and zipfile make of it
            return None

    def save(self, name: str, arrays: Arrays) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{name}.npz"
            if not path.exists() and sum(1 for _ in self.folder.iterdir()) >= MAX_FILES:
                return
            handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError:
            return

    def save_later(self, name: str, arrays: Arrays) -> None:
        """Like `save`, in a thread of its own: nobody waits for a disk."""
        self._saving = [thread for thread in self._saving if thread.is_alive()]
        self._saving.append(threading.Thread(target=self.save, args=(name, arrays), daemon=True))
        self._saving[-1].start()

    def wait(self) -> None:
        for thread in self._saving:
            thread.join()

    def names(self) -> list[str]:
        """The names of all tables there are."""
        try:
            return sorted(name.removesuffix(".npz") for name in os.listdir(self.folder) if name.endswith(".npz"))
        except OSError:
            return []
