"""The picture of a state: every token once, by where it came from."""

from __future__ import annotations

import html
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stemma.lang.reports.origins import OriginSpan, num_computed, with_generated, with_prompt
from stemma.lang.states.state import State


def test_runs_after_a_prompt():
    assert with_prompt((), 10, 0) == (OriginSpan("computed", 10),)
    assert with_prompt((), 10, 4) == (OriginSpan("cached", 4), OriginSpan("computed", 10))
    known = (OriginSpan("computed", 10), OriginSpan("sampled", 12))
    assert with_prompt(known, 20, 11) == (*known, OriginSpan("computed", 20))
    assert with_prompt(known, 20, 19) == (*known, OriginSpan("cached", 19), OriginSpan("computed", 20))
    assert with_prompt(known, 12, 11) == known


@given(st.integers(0, 9), st.integers(0, 30), st.sets(st.integers(0, 29)))
def test_runs_after_generated_tokens(start, count, forced):
    spans = with_generated(with_prompt((), start, 0), count, forced)
    assert num_computed(spans) == start + count
    ends = [run.end for run in spans]
    assert ends == sorted(set(ends))
    origins = [next(run.origin for run in spans if index < run.end) for index in range(start, start + count)]
    assert origins == ["forced" if index in forced else "sampled" for index in range(count)]
    assert all(one.origin != other.origin for one, other in pairwise(spans))


def test_a_picture_shows_every_token_and_escapes_it(llm):
    llm.generate(list(State(llm).system("shared").tokens), max_tokens=0)
    s = State(llm).system("shared").user("<b>&</b>")
    s.gen(max_tokens=4, ignore_eos=True).result()
    s.user("more")
    page = s._repr_html_()
    body = page.split("</div>")[0]
    spans = re.findall(r"title='(\w+)[^']*'>(.*?)</span>", body, re.DOTALL)
    assert [title for title, _ in spans] == ["cached", "computed", "sampled", "not"]
    text = html.unescape("".join(text for _, text in spans))
    assert text.startswith("<|start|>system\nshared<|end|>\n<|start|>user\n<b>&</b><|end|>\n<|start|>assistant\n")
    assert text.endswith("<|end|>\n<|start|>user\nmore<|end|>\n")
    assert "<b>" not in page
