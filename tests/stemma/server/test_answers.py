"""Text to content and calls: the same in any pieces; what is cut inside a call is never content."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from stemma.server.outputs.answers import Answer, AnswerParser
from stemma.server.prompts.tool_text import CALL_BEGIN, CALL_END

FUNCTIONS = ("find", "go")
TEXTS = st.text("ab< {}\n", max_size=6)
VALUES = st.dictionaries(
    st.sampled_from("ab"), st.sampled_from(['"}', CALL_END, CALL_BEGIN, "é", 1, {"c": [{}]}]), max_size=2
)
CALLS = st.lists(st.tuples(st.sampled_from(FUNCTIONS), VALUES), max_size=3)


def written(name: str, arguments: dict[str, object]) -> str:
    return f'{CALL_BEGIN}\n{{"name": "{name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}\n{CALL_END}'


def parsed(parser: AnswerParser, pieces: list[str], *, is_cut: bool) -> Answer:
    answer = Answer()
    for piece in [made for text in pieces for made in parser.push(text)] + (
        parser.cut() if is_cut else parser.finish()
    ):
        answer.add(piece)
    return answer


def said(answer: Answer) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in answer.calls]


@given(before=TEXTS, calls=CALLS, data=st.data())
def test_pieces_are_the_whole_and_no_cut_shows_markup(before: str, calls: list, data: st.DataObject) -> None:
    text = before + "\n".join(written(name, arguments) for name, arguments in calls)
    end = data.draw(st.integers(0, len(text)))
    text = text[:end]
    is_cut = data.draw(st.booleans()) if end <= len(before) else True
    cuts = sorted(data.draw(st.lists(st.integers(0, end), max_size=6)))
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, end], strict=True)]
    parser, whole_parser = AnswerParser(FUNCTIONS), AnswerParser(FUNCTIONS)
    answer, whole = parsed(parser, pieces, is_cut=is_cut), parsed(whole_parser, [text], is_cut=is_cut)
    assert (answer.content, said(answer)) == (whole.content, said(whole))
    assert parser.is_cut_in_call == whole_parser.is_cut_in_call
    assert parser.is_in_arguments == whole_parser.is_in_arguments
    assert before.startswith(answer.content)
    if not is_cut:
        assert answer.content == text
    for (name, made), (expected_name, arguments) in zip(said(answer), calls, strict=False):
        assert name == expected_name
        assert json.dumps(arguments, ensure_ascii=False).startswith(made)
    broken = [
        made
        for (_, made), (_, full) in zip(said(answer), calls, strict=False)
        if made != json.dumps(full, ensure_ascii=False)
    ]
    assert len(broken) == parser.is_in_arguments
    assert parser.is_cut_in_call or not broken


@given(text=st.text("<tool_cal> {", max_size=16), data=st.data())
def test_where_calls_come_first_other_text_is_content(text: str, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([text, CALL_BEGIN[:4] + text, "{" + CALL_BEGIN + text]))
    if text.startswith(CALL_BEGIN):
        return
    cut = data.draw(st.integers(0, len(text)))
    answer = parsed(AnswerParser(FUNCTIONS, calls_first=True), [text[:cut], text[cut:]], is_cut=False)
    assert answer == Answer(text, [])
    parser = AnswerParser(FUNCTIONS, calls_first=True)
    answer = parsed(parser, [text[:cut], text[cut:]], is_cut=True)
    assert parser.is_cut_in_call == (bool(text) and CALL_BEGIN.startswith(text))
    assert answer.content == ("" if parser.is_cut_in_call else text)
