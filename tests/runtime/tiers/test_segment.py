from __future__ import annotations

from stemma.runtime.tiers.records import MAGIC
from stemma.runtime.tiers.segment import Segment
from tests.runtime.tiers.blocks import key, sealed


def keys(segment: Segment) -> list[bytes]:
    return [head.key for head, _ in segment.scan()]


def test_records_are_found_where_they_were_put(tmp_path):
    segment = Segment(tmp_path / "s", 1)
    assert keys(segment) == []
    offsets = [segment.append(sealed(number)[1]) for number in range(3)]
    again = Segment(tmp_path / "s", 1)
    assert [(head.key, offset) for head, offset in again.scan()] == [(key(n), offsets[n]) for n in range(3)]
    assert again.read(offsets[1], len(sealed(1)[1])) == sealed(1)[1]


def test_a_torn_tail_and_damaged_heads_cost_only_themselves(tmp_path):
    path, records = tmp_path / "s", [sealed(number)[1] for number in range(4)]
    path.write_bytes(records[0] + b"x" * 10 + records[1] + MAGIC + records[2] + records[3][:-1])
    assert keys(Segment(path, 1)) == [key(0), key(1), key(2)]


def test_one_that_has_gone_from_its_folder_is_read_as_long_as_somebody_has_it(tmp_path):
    segment = Segment(tmp_path / "s", 1)
    offset = segment.append(sealed(1)[1])
    segment.path.unlink()
    assert segment.read(offset, len(sealed(1)[1])) == sealed(1)[1]
