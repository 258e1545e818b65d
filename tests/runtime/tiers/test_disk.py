"""The disk tier: bounded, whole after kill -9, and whatever happens to its files a miss at worst."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tiers.bad_reads import MOST_IN_A_ROW
from stemma.runtime.tiers.disk import DiskTier
from stemma.runtime.tiers.guarded import Guarded
from stemma.runtime.tiers.records import unseal
from stemma.runtime.tiers.tier import TierError
from tests.runtime.tiers.blocks import key, payload, sealed

MB = 1 << 20


def read(tier: DiskTier, numbers: range, size: int = 1000) -> list[int]:
    """Those of these blocks that are there and whole; asserts that none is another."""
    found = []
    for number, record in zip(numbers, tier.get([key(number) for number in numbers]), strict=True):
        whole = None if record is None else unseal(key(number), record)
        if whole is not None:
            assert bytes(whole) == payload(number, size)
            found.append(number)
    return found


def test_what_was_put_is_there_and_found_again_by_the_next_process(tmp_path):
    tier = DiskTier(tmp_path, MB)
    tier.put([sealed(number) for number in range(20)])
    tier.put([sealed(number) for number in range(10)])  # once is enough
    held = tier.held_bytes
    assert read(tier, range(25)) == list(range(20))
    assert tier.contains([key(3), key(30)]) == [True, False]
    tier.close()
    again = DiskTier(tmp_path, MB)
    assert again.held_bytes == held
    assert read(again, range(25)) == list(range(20))
    again.close()


def test_it_never_holds_more_than_it_may_and_the_oldest_go_first(tmp_path):
    tier = DiskTier(tmp_path, 32_000)
    for number in range(100):
        tier.put([sealed(number)])
        assert tier.held_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.kv")) <= 32_000
    found = read(tier, range(100))
    assert found == list(range(100 - len(found), 100))
    assert len(found) > 20
    tier.put([sealed(1000, 64_000)])
    assert read(tier, range(100)) == found
    tier.close()
    smaller = DiskTier(tmp_path, 8_000)
    assert smaller.held_bytes <= 8_000
    assert read(smaller, range(100)) == found[-len(read(smaller, range(100))) :]
    smaller.close()


def test_one_folder_is_one_engines(tmp_path):
    tier = DiskTier(tmp_path, MB)
    with pytest.raises(InvalidRequest, match="another engine") as caught:
        DiskTier(tmp_path, MB)
    assert caught.value.param == "kv_disk"
    tier.close()
    DiskTier(tmp_path, MB).close()
    with pytest.raises(TierError, match="closed"):
        tier.put([sealed(1)])


def test_a_folder_that_is_none_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="choose another folder") as caught:
        DiskTier(tmp_path / "file", MB)
    assert caught.value.param == "kv_disk"


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    tier = DiskTier(tmp_path, MB)
    tier.put([sealed(1)])
    real = os.pwrite

    def full(descriptor, data, offset):
        if len(data) > 600:
            return real(descriptor, data[:500], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TierError, match=r"No space.*lower kv_disk_gb"):
        tier.put([sealed(2)])
    monkeypatch.undo()
    tier.put([sealed(3)])
    assert read(tier, range(5)) == [1, 3]
    tier.close()
    again = DiskTier(tmp_path, MB)
    assert read(again, range(5)) == [1, 3]
    again.close()


def test_files_that_others_remove_are_written_anew_and_another_engine_s_folder_is_left_alone(tmp_path):
    folder = tmp_path / "kv"
    tier = DiskTier(folder, MB)
    tier.put([sealed(1), sealed(2)])
    for path in folder.iterdir():
        path.unlink()
    assert read(tier, range(5)) == [1, 2]  # they can be read while they are open
    tier.put([sealed(3)])
    assert tier.contains([key(1), key(2), key(3)]) == [False, False, True]
    assert tier.held_bytes == sum(path.stat().st_size for path in folder.glob("*.kv"))
    with pytest.raises(InvalidRequest, match="another engine"):
        DiskTier(folder, MB)
    tier.put([sealed(1)])
    shutil.rmtree(folder)
    for _ in range(2):
        with pytest.raises(TierError, match="see that it is there"):
            tier.put([sealed(2)])
    other = DiskTier(folder, MB)
    other.put([sealed(4)])
    for _ in range(2):
        with pytest.raises(TierError, match="another engine"):
            tier.put([sealed(2)])
    other.close()
    tier.put([sealed(2)])
    assert read(tier, range(5)) == [2]
    tier.close()
    again = DiskTier(folder, MB)
    assert read(again, range(5)) == [2, 4]
    again.close()


WRITER = """
import sys
from pathlib import Path
from tests.runtime.tiers.blocks import sealed
from stemma.runtime.tiers.disk import DiskTier
tier, number = DiskTier(Path(sys.argv[1]), 40_000_000), 0
while True:
    tier.put([sealed(number, 100_000)])
    print(number, flush=True)
    number += 1
"""


def test_a_writer_that_is_killed_leaves_all_that_it_had_put(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for number_to_kill in (3, 11):
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert writer.stdout is not None
        last = -1
        while last < number_to_kill:
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        tier = DiskTier(tmp_path, 40_000_000)
        assert read(tier, range(last + 1), 100_000) == list(range(last + 1))
        tier.close()


kinds, more = st.sampled_from(["flip", "cut", "append", "zero"]), st.binary(min_size=1, max_size=90)
damage = st.lists(st.tuples(kinds, st.integers(0, 2**31), more), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(damage)
def test_whatever_happens_to_the_files_a_block_is_itself_or_missing(harms):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tier = DiskTier(folder, 20_000)
        tier.put([sealed(number, 300) for number in range(20)])
        tier.close()
        for kind, where, more in harms:
            paths = sorted(folder.glob("*.kv"))
            path = paths[where % len(paths)]
            data = bytearray(path.read_bytes())
            at = where % max(1, len(data))
            if kind == "flip" and data:
                data[at] ^= 1 << where % 8
            elif kind == "cut":
                del data[at:]
            elif kind == "append":
                data += more
            else:
                data[at : at + len(more)] = bytes(len(data[at : at + len(more)]))
            path.write_bytes(data)
        again = DiskTier(folder, 20_000)
        before = read(again, range(20), 300)
        num_flips = sum(kind in ("flip", "zero") for kind, _, _ in harms)
        if num_flips == len(harms):
            assert len(before) >= 20 - 2 * num_flips
        for number in range(20, 30):
            again.put([sealed(number, 300)])
        held = read(again, range(30), 300)
        assert set(range(20, 30)) <= set(held)
        again.close()
        last = DiskTier(folder, 20_000)
        assert read(last, range(30), 300) == held
        last.close()


def test_a_damaged_block_is_forgotten_and_can_be_put_again(tmp_path):
    tier = DiskTier(tmp_path, MB)
    tier.put([sealed(number) for number in range(3)])
    path = next(tmp_path.glob("*.kv"))
    data = bytearray(path.read_bytes())
    data[1500] ^= 1
    path.write_bytes(data)
    assert read(tier, range(3)) == [0, 2]
    tier.drop(key(1))
    tier.put([sealed(1)])
    assert read(tier, range(3)) == [0, 1, 2]
    tier.close()


def bad_at(monkeypatch: pytest.MonkeyPatch, places: set[int], number: int = errno.EIO) -> None:
    """A disk that does not give back what stands at these places."""
    real = os.pread

    def read(descriptor, num_bytes, offset):
        if any(offset <= place < offset + num_bytes for place in places):
            raise OSError(number, os.strerror(number))
        return real(descriptor, num_bytes, offset)

    monkeypatch.setattr(os, "pread", read)


def places(tier: DiskTier, numbers: range) -> set[int]:
    """A byte in the middle of each of these blocks."""
    return {tier._places[key(number)].offset + 500 for number in numbers}


def test_what_a_disk_does_not_give_back_of_one_block_is_a_miss_and_written_anew(tmp_path, monkeypatch, caplog):
    tier = Guarded(disk := DiskTier(tmp_path, MB))
    tier.put([(key(number), payload(number)) for number in range(6)])
    with monkeypatch.context() as bad:
        bad_at(bad, places(disk, range(1, 2)))
        found = tier.get([key(number) for number in range(6)])
        assert [number for number, each in enumerate(found) if each is None] == [1]
        assert tier.is_up
        assert (tier.stats().damaged, tier.stats().failures) == (1, 0)
        assert "a block is damaged" in caplog.text
        assert tier.wants(key(1))
        tier.put([(key(1), payload(1))])
        assert bytes(tier.get([key(1)])[0]) == payload(1)
        assert read(disk, range(6)) == list(range(6))
    tier.close()


def test_a_disk_that_gives_back_nothing_is_left_out(tmp_path, monkeypatch):
    tier = Guarded(disk := DiskTier(tmp_path, MB))
    tier.put([(key(number), payload(number)) for number in range(8)])
    bad_at(monkeypatch, places(disk, range(8)))
    for number in range(MOST_IN_A_ROW):
        assert tier.get([key(number)]) == [None]
        assert tier.is_up
    assert tier.get([key(MOST_IN_A_ROW)]) == [None]
    assert not tier.is_up
    tier.close()


def test_an_error_that_is_no_bad_place_leaves_a_disk_out_at_once(tmp_path, monkeypatch):
    disk = DiskTier(tmp_path, MB)
    disk.put([sealed(0)])
    bad_at(monkeypatch, places(disk, range(1)), errno.ESTALE)
    with pytest.raises(TierError, match="look after the disk"):
        disk.get([key(0)])
    disk.close()


def test_a_bad_place_at_the_start_costs_the_blocks_that_begin_there(tmp_path, monkeypatch):
    tier = DiskTier(tmp_path, 64 * MB)
    tier.put([sealed(number, 100_000) for number in range(6)])
    start = tier._places[key(2)].offset
    tier.close()
    with monkeypatch.context() as bad:
        bad_at(bad, {start + 4})
        again = DiskTier(tmp_path, 64 * MB)
        assert read(again, range(6), 100_000) == [0, 1, 3, 4, 5]
        again.close()
