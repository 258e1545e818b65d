"""Text as it comes: whole characters, stop strings held back and cut off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.runtime.engine.text import TextStream


@pytest.fixture(scope="module")
def stream(loaded):
    def make(*stop):
        return TextStream(loaded.tokenizer.detokenizer(), stop, {256})

    return make


def test_a_character_waits_until_it_is_whole(stream):
    text = stream()
    assert [(text.push(byte), text.take())[1] for byte in "aé😀".encode()] == ["a", "", "é", "", "", "", "😀"]
    assert text.finish() == ""


def test_an_unfinished_character_is_replaced(stream):
    text = stream()
    text.push("é".encode()[0])
    assert text.take() == ""
    assert text.finish() == "\N{REPLACEMENT CHARACTER}"


def test_what_may_become_a_stop_string_is_held_back(stream):
    text = stream("END")
    taken = []
    for byte in b"an EN end EN":
        assert not text.push(byte)
        taken.append(text.take())
    assert "".join(taken) == "an EN end "
    assert text.finish() == "EN"


def test_the_first_stop_string_counts(stream):
    text = stream("later", "soon")
    stops = [text.push(byte) for byte in b"it is soon"]
    assert stops == [False] * 9 + [True]
    assert text.text == "it is "
    assert text.finish() == "it is "


def test_end_tokens_have_no_text(stream):
    text = stream()
    text.push(65)
    assert not text.push(256)
    assert text.finish() == "A"


@given(data=st.text("abAB", max_size=40), stop=st.lists(st.text("abAB", min_size=1, max_size=4), max_size=3))
def test_streamed_text_is_the_text_before_the_first_stop(stream, data, stop):
    text = stream(*stop)
    taken = ""
    for byte in data.encode():
        stopped = text.push(byte)
        taken += text.take()
        if stopped:
            break
    taken += text.finish()
    ends = [(data.index(item) + len(item), data.index(item)) for item in stop if item in data]
    if ends:
        first_end = min(end for end, _ in ends)
        assert taken == data[: min(at for end, at in ends if end == first_end)]
    else:
        assert taken == data


def test_a_stop_string_may_be_part_of_the_text(loaded):
    text = TextStream(loaded.tokenizer.detokenizer(), ("END", "ND"), {256}, includes_stop=True)
    assert [text.push(byte) for byte in b"at END"] == [False] * 5 + [True]
    assert (text.text, text.stopped_by) == ("at END", "END")


@given(
    data=st.text("abAB", max_size=40), stop=st.lists(st.text("abAB", min_size=1, max_size=4), max_size=3),
    num=st.integers(0, 12), includes=st.booleans(),
)  # fmt: skip
def test_early_stop_strings_do_not_count_and_streams_agree(loaded, data, stop, num, includes):
    text = TextStream(loaded.tokenizer.detokenizer(), stop, {256}, min_tokens=num, includes_stop=includes)
    taken, count = "", 0
    for byte in data.encode():
        stopped = text.push(byte)
        count += 1
        taken += text.take()
        if stopped:
            break
    taken += text.finish()
    assert taken == text.text
    ends = [(at, one) for one in stop for at in range(len(data)) if data.startswith(one, at) and at + len(one) >= num]
    if not ends:
        assert (taken, text.stopped_by) == (data, None)
        return
    end = min(at + len(one) for at, one in ends)
    assert count == max(end, num)
    begin, said = min((at, one) for at, one in ends if at + len(one) == end)
    assert (taken, text.stopped_by) == (data[: begin + len(said) * includes], said)
