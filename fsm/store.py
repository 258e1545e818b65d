"""Tables of a vocabulary on disk, in the user's cache directory: named arrays, written whole or not at all.

A file that cannot be read or written is as good as none: the tables are built again. It never asks what they mean.
"""

from __future__ import annotations

import os
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

FORMAT = 3  # of the tables; another number leaves old files alone
MAX_FILES = 48  # of one vocabulary

Arrays = Mapping[str, npt.NDArray[Any]]


class Store:
    """The files of one vocabulary."""

    def __init__(self, key: str) -> None:
        self._saving: list[threading.Thread] = []
        self.folder = Path(platformdirs.user_cache_dir("stemma")) / "fsm" / f"{key[:32]}-{FORMAT}"

    def load(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, name: str, arrays: Arrays) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if sum(1 for _ in self.folder.iterdir()) >= MAX_FILES:
                return
            handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(temporary, self.folder / f"{name}.npz")
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
        return sorted(path.stem for path in self.folder.glob("*.npz"))
