"""The environment variables that Stemma reads, all of them, here and nowhere else. Imports nothing of Stemma."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Where models and packed weights are kept: `STEMMA_CACHE`, else the user's cache directory."""
    chosen = os.environ.get("STEMMA_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("stemma"))


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with changes, for a program that it starts."""
    return {**os.environ, **changes}
