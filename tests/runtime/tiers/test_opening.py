from __future__ import annotations

import pytest

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tiers.disk import DiskTier
from stemma.runtime.tiers.folder import FolderTier
from stemma.runtime.tiers.host import HostTier
from stemma.runtime.tiers.opening import TierOptions, open_tiers


def test_the_fastest_is_first(tmp_path):
    shared = (tmp_path / "all of us").as_uri()
    options = TierOptions(host_bytes=1, disk=tmp_path / "own", disk_bytes=1000, shared=shared, shared_bytes=1000)
    tiers = open_tiers(options)
    assert [type(tier) for tier in tiers] == [HostTier, DiskTier, FolderTier]
    assert (tmp_path / "all of us").is_dir()
    for tier in tiers:
        tier.close()
    assert open_tiers(TierOptions()) == []
    assert TierOptions().is_empty


@pytest.mark.parametrize("url", ["", "folder", "ftp://host/x", "file://host/x", "file:relative", "s3://"])
def test_other_urls_are_refused_and_no_password_is_told(url):
    with pytest.raises(InvalidRequest, match="kv_shared is redis://") as caught:
        open_tiers(TierOptions(shared=url))
    assert caught.value.param == "kv_shared"
