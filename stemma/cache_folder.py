"""Where Stemma keeps what it can make again: models, compiled kernels, tables of vocabularies. One setting moves all.

`STEMMA_CACHE`, else the user's cache directory; where nothing can be written there, a temporary folder that shows what
can be read there, and one warning. Imports nothing of Stemma, so that the libraries below all layers keep to it too.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs

log = logging.getLogger("stemma.cache")


def cache_folder() -> Path:
    """The folder, which can be written unless nothing on this machine can."""
    return _usable(chosen_folder())


def chosen_folder() -> Path:
    """The folder that is wanted, whatever is there; not absolute only for a user without a home."""
    try:
        wanted = os.path.expanduser(os.environ.get("STEMMA_CACHE") or platformdirs.user_cache_dir("stemma"))
    except RuntimeError:  # newer versions of platformdirs say so
        return Path("~")
    return Path(wanted) if wanted.startswith("~") else Path(wanted).absolute()


@functools.cache
def _usable(folder: Path) -> Path:
    try:
        if not folder.is_absolute():
            raise FileNotFoundError("this user has no home")
        _try_writing(folder)
    except OSError as error:
        instead = _temporary(folder)
        log.warning(
            "nothing can be kept in %s (%s), so it is kept in %s; STEMMA_CACHE moves it", folder, error, instead
        )
        return instead
    return folder


def _try_writing(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()


def _temporary(folder: Path) -> Path:
    """A folder that this user alone can write, the same for all processes that want `folder`, with links to its files.

    Machine code is run from there, so one that somebody else has made before is not taken.
    """
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    try:
        own = Path(tempfile.gettempdir()) / f"stemma-{os.getuid()}"
        with suppress(FileExistsError):
            own.mkdir(mode=0o700)
        found = own.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            own = Path(tempfile.mkdtemp(prefix="stemma-"))
        _try_writing(own / name)
    except OSError:
        return folder  # nothing can be kept anywhere
    for parent, _, files in os.walk(folder):
        for file in files:
            link = own / name / Path(parent).relative_to(folder) / file
            with suppress(OSError):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(parent) / file)
    return own / name
