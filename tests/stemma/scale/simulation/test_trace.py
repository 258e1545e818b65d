"""Recorded traffic in both public forms."""

from __future__ import annotations

import json

import pytest

from stemma.runtime.errors import InvalidRequest
from stemma.scale.simulation.synthetic import synthetic
from stemma.scale.simulation.trace import make_trace, read_records, write_records

MOONCAKE = [
    {"timestamp": 27000, "input_length": 1100, "output_length": 3, "hash_ids": [46, 47, 48]},
    {"timestamp": 30000, "input_length": 1500, "output_length": 500, "hash_ids": [46, 47, 2354]},
]
CHAT = [
    {
        "chat_id": 1, "parent_chat_id": -1, "timestamp": 5.0, "input_length": 40, "output_length": 30, "type": "text",
        "turn": 1, "hash_ids": [1, 2, 3],
    },
    {
        "chat_id": 2, "parent_chat_id": 1, "timestamp": 9.0, "input_length": 90, "output_length": 8, "type": "text",
        "turn": 2, "hash_ids": [1, 2, 4, 5, 6, 7],
    },
]  # fmt: skip


def written(path, lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_mooncakes_form(tmp_path):
    records, block_len = read_records(written(tmp_path / "trace.jsonl", MOONCAKE))
    assert (block_len, [record.at for record in records]) == (512, [0.0, 3.0])
    trace = make_trace("mooncake", records, block_len)
    first, second = trace.requests
    assert len(first.prompt) == 2  # the third block is not full
    assert list(second.prompt)[:2] == list(first.prompt)
    assert len(second.output) == (1500 + 500) // 512 - 2
    assert trace.endless_hit == 1024 / 2600
    assert second.hashes[:2] == first.hashes


def test_a_chat_goes_on_from_its_answer(tmp_path):
    trace = make_trace("chat", *read_records(written(tmp_path / "trace.jsonl", CHAT)))
    first, second = trace.requests
    assert list(second.prompt[:4]) == [*first.prompt, *first.output]
    assert first.session == second.session
    assert trace.endless_hit == 64 / 130


def test_larger_blocks_are_shared_where_all_of_them_is(tmp_path):
    trace = make_trace("chat", *read_records(written(tmp_path / "trace.jsonl", CHAT)), coarser=2)
    first, second = trace.requests
    assert (len(first.prompt), len(first.output), len(second.prompt)) == (1, 1, 2)
    assert list(second.prompt) == [*first.prompt, *first.output]


def test_what_is_written_is_read_again(tmp_path):
    records = synthetic(3, 50, 1.0)
    write_records(tmp_path / "trace.jsonl", records)
    again, block_len = read_records(tmp_path / "trace.jsonl")
    assert block_len == 16
    assert [record._replace(at=0) for record in again] == [record._replace(at=0) for record in records]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["not json"],
        [{"timestamp": 1}],
        [MOONCAKE[0] | {"hash_ids": [1, 2, 3, 4]}],
        [MOONCAKE[0] | {"input_length": 0}],
        [MOONCAKE[0] | {"timestamp": float("nan")}],
        [MOONCAKE[0], CHAT[0]],
        ["[]"],
    ],
)
def test_other_files_are_refused_with_their_line(tmp_path, lines):
    with pytest.raises(InvalidRequest, match=r"trace\.jsonl"):
        read_records(written(tmp_path / "trace.jsonl", lines))


def test_a_speed_or_a_size_of_nothing_is_refused():
    records = synthetic(1, 2, 1.0)
    with pytest.raises(InvalidRequest, match="coarser"):
        make_trace("one", records, 16, coarser=0)
    with pytest.raises(InvalidRequest, match="speed"):
        make_trace("one", records, 16, speed=0.0)
