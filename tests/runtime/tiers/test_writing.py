from __future__ import annotations

from stemma.runtime.tiers.stack import Stack
from stemma.runtime.tiers.writing import Writer
from tests.runtime.tiers.blocks import Odd, key, payload


def test_what_is_offered_is_written_once_and_what_has_no_room_is_left_out():
    odd = Odd()
    writer = Writer(Stack([odd]), 3000)
    odd.gate.clear()
    reads = []
    for number in (0, 1, 1, 2, 3, 4):
        writer.offer(key(number), 1000, lambda number=number: reads.append(number) or payload(number))
    assert reads == [0, 1, 2]
    assert writer.num_left_out == 2
    assert not writer.drain(0.01)
    odd.gate.set()
    assert writer.drain(30)
    assert sorted(odd.records) == [key(0), key(1), key(2)]
    writer.offer(key(1), 1000, lambda: reads.append(1) or payload(1))
    assert reads == [0, 1, 2]
    writer.offer(key(4), 1000, lambda: payload(4))
    writer.close(30)
    assert key(4) in odd.records
