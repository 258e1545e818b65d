"""Which reads that fail are one record's own fault."""

from __future__ import annotations

import errno

import pytest

from stemma.runtime.tiers.bad_reads import MOST_IN_A_ROW, BadReads
from stemma.runtime.tiers.folder import FolderTier
from stemma.runtime.tiers.tier import TierError
from tests.runtime.tiers.blocks import key, sealed

BAD = OSError(errno.EIO, "Input/output error")


def test_so_many_in_a_row_are_the_records_own_and_no_more_until_one_is_read():
    reads = BadReads()
    for _ in range(2):
        assert [reads.failed(BAD) for _ in range(MOST_IN_A_ROW + 1)] == [True] * MOST_IN_A_ROW + [False]
        reads.fine()


def test_an_error_of_the_whole_tier_is_no_records():
    assert not BadReads().failed(OSError(errno.ENOTCONN, "not connected"))


def test_a_file_of_a_shared_folder_that_cannot_be_read_is_no_record(tmp_path, monkeypatch):
    tier = FolderTier(tmp_path, 10**9)
    tier.put([sealed(number) for number in range(6)])

    def failing(path):
        raise BAD

    with monkeypatch.context() as bad:
        bad.setattr("pathlib.Path.read_bytes", failing)
        assert tier.get([key(1)]) == [b""]
    assert tier.get([key(2)]) == [sealed(2)[1]]
    monkeypatch.setattr("pathlib.Path.read_bytes", failing)
    with pytest.raises(TierError, match="mounted"):
        tier.get([key(number) for number in range(6)])
