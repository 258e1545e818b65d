"""One setting moves all that is kept on disk, and no state of the disk stops an engine."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from stemma import cache_folder as cache
from stemma.cache_folder import cache_folder
from stemma.fsm.vocabulary.disk_cache import DiskCache
from stemma.machine_code import keep_code, read_code
from stemma.runtime.model.pull import DEFAULT, default_model

SCRIPT = """
import stemma
from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny

llm = Engine.of(tiny(select_ops()), kv_tokens=1024)
assert llm.generate("x", grammar=stemma.Regex("[ab]{3}")).text
"""


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch, tmp_path):
    """What is known of folders is of this test, and so is the folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    cache._usable.cache_clear()
    yield
    cache._usable.cache_clear()


def run(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_one_setting_moves_everything(tmp_path):
    home, chosen = tmp_path / "home", tmp_path / "chosen"
    home.mkdir()
    said = run(STEMMA_CACHE=str(chosen), HOME=str(home), XDG_CACHE_HOME=str(home / ".cache"))
    assert said == ""
    assert list(home.rglob("*stemma*")) == []
    assert list((chosen / "kernels").glob("*.o"))
    assert list((chosen / "fsm").glob("*/trie.npz"))


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    said = run(STEMMA_CACHE=str(tmp_path / "file" / "cache"), TMPDIR=str(tmp_path / "tmp"))
    assert len(said.splitlines()) == 1
    assert str(tmp_path / "file") in said
    assert "STEMMA_CACHE" in said
    assert list((tmp_path / "tmp").glob("stemma-*/*/kernels/*.o"))


@pytest.mark.parametrize("chosen", ["/proc/stemma", "/dev/null", "/dev/null/x", "~nobody-of-this-name/x"])
def test_what_is_no_place_for_files_is_replaced(monkeypatch, caplog, tmp_path, chosen):
    monkeypatch.setenv("STEMMA_CACHE", chosen)
    with caplog.at_level(logging.WARNING):
        found = [cache_folder() for _ in range(3)]
    assert len(caplog.records) == 1
    assert found[0] == found[1] == found[2]
    assert found[0].is_relative_to(tmp_path / "tmp")
    assert (found[0].parent.stat().st_mode & 0o777) == 0o700


def test_a_user_without_a_home(monkeypatch, tmp_path):
    for name in ("STEMMA_CACHE", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    assert cache_folder().is_relative_to(tmp_path / "tmp")


def test_a_folder_of_somebody_elses_making_is_not_trusted(monkeypatch, tmp_path):
    (tmp_path / "tmp" / f"stemma-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / "tmp" / f"stemma-{os.getuid()}").chmod(0o777)
    monkeypatch.setenv("STEMMA_CACHE", "/dev/null/x")
    assert cache_folder().parent != tmp_path / "tmp" / f"stemma-{os.getuid()}"
    assert cache_folder().is_relative_to(tmp_path / "tmp")


def test_what_a_read_only_folder_has_is_used(monkeypatch, tmp_path):
    baked = tmp_path / "baked"
    model = baked / "models" / Path(DEFAULT.member).name
    model.parent.mkdir(parents=True)
    model.write_text("a model")
    write = cache._try_writing

    def read_only(folder):
        if folder == baked:
            raise PermissionError(30, "Read-only file system")
        write(folder)

    monkeypatch.setattr(cache, "_try_writing", read_only)
    monkeypatch.setenv("STEMMA_CACHE", str(baked))
    assert default_model().read_text() == "a model"
    assert cache_folder() != baked


def test_no_place_at_all_is_no_error(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("STEMMA_CACHE", "/dev/null/x")
    for name in ("mkdtemp", "mkstemp", "TemporaryFile"):
        monkeypatch.setattr(tempfile, name, full)
    store = DiskCache("0" * 64)
    store.save("a", {"x": np.arange(3)})
    assert store.load("a") is None
    assert store.names() == []
    keep_code(cache_folder() / "kernels" / "a.o", b"code")
    assert read_code(cache_folder() / "kernels" / "a.o") is None


def test_damaged_machine_code_is_made_again(tmp_path):
    path = tmp_path / "a.o"
    keep_code(path, b"code" * 100)
    whole = path.read_bytes()
    assert read_code(path) == b"code" * 100
    for damaged in (b"", whole[:-1], whole[:40], whole[:50] + b"x" + whole[51:], b"x" + whole[1:]):
        path.write_bytes(damaged)
        assert read_code(path) is None
    assert [other.name for other in tmp_path.iterdir() if other.name != "tmp"] == ["a.o"]


def test_damaged_tables_are_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "cache"))
    store = DiskCache("1" * 64)
    store.save("a", {"x": np.arange(100)})
    path = store.folder / "a.npz"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at])
        assert store.load("a") is None
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        loaded = store.load("a")
        assert loaded is None or "x" not in loaded or np.array_equal(loaded["x"], np.arange(100))
    store.save("a", {"x": np.arange(100)})
    assert np.array_equal(store.load("a")["x"], np.arange(100))


def test_the_environment_is_read_in_few_places():
    """A folder, then settings; the variables that a file of MCP servers names; the CPU's threads and target."""
    root = Path(__file__).resolve().parent.parent
    files = [path for top in ("stemma", "runtime", "radix", "fsm", "kernels") for path in (root / top).rglob("*.py")]
    readers = {path for path in files if "os.environ" in path.read_text() or "getenv" in path.read_text()}
    places = {str(path.resolve().relative_to(root)) for path in readers}
    machine = {"kernels/cpu/machine/cores.py", "kernels/cpu/machine/target.py"}
    assert places == {"stemma/cache_folder.py", "runtime/settings.py", "stemma/lang/mcp/config.py"} | machine
