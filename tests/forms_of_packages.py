"""What a program says in a process of its own, with the form of a package that lies in some folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def said(program: str, folder: Path) -> list[str]:
    """Its words. folder: where the package `stemma` lies."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()
