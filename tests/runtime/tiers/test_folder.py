from __future__ import annotations

import pytest

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tiers.folder import FolderTier
from stemma.runtime.tiers.tier import TierError
from tests.runtime.tiers.blocks import key, sealed
from tests.runtime.tiers.contract import assert_keeps_records


def test_it_keeps_records_and_two_of_them_share(tmp_path):
    tier, other = FolderTier(tmp_path / "s", 10**9), FolderTier(tmp_path / "s", 10**9)
    assert_keeps_records(tier)
    assert other.get([key(1)]) == tier.get([key(1)]) != [None]
    assert list((tmp_path / "s").glob("part-*")) == []
    tier.close()


def test_it_is_bounded(tmp_path):
    tier = FolderTier(tmp_path, 20_000)
    for number in range(60):
        tier.put([sealed(number)])
    held = sum(path.stat().st_size for path in tmp_path.glob("??/*.kv"))
    assert 10_000 < held <= 20_000 + 20_000 // 32 + 2000
    assert tier.contains([key(59)]) == [True]


def test_a_folder_that_goes_away_is_an_error_and_not_a_miss(tmp_path):
    tier = FolderTier(tmp_path / "s", 20_000)
    (tmp_path / "s").rename(tmp_path / "t")
    with pytest.raises(TierError, match="mounted"):
        tier.contains([key(1)])
    with pytest.raises(TierError, match="mounted"):
        tier.put([sealed(1)])
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="choose another"):
        FolderTier(tmp_path / "file" / "s", 1)


def test_what_stands_in_the_place_of_a_record_and_cannot_be_read_is_a_miss(tmp_path):
    tier = FolderTier(tmp_path, 10**9)
    tier.put([sealed(1), sealed(2)])
    (path,) = tmp_path.glob(f"??/{key(1).hex()}.kv")
    path.unlink()
    path.mkdir()
    assert [each is None for each in tier.get([key(1), key(2)])] == [True, False]
