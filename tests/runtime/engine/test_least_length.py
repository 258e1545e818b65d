"""min_tokens: nothing ends a text before it is so long, in any company; a form ends where nothing may follow."""

from __future__ import annotations

import pytest

from stemma.fsm.regex import Regex
from stemma.runtime.errors import InvalidRequest

END = 256
WANTS_TO_END = {"logit_bias": {END: 100.0}}


@pytest.mark.parametrize("num", [0, 1, 2, 7])
@pytest.mark.parametrize("repetition_penalty", [1.0, 1.5])
def test_the_models_end_does_not_come_earlier(make, num, repetition_penalty):
    options = {"min_tokens": num, "max_tokens": 20, "repetition_penalty": repetition_penalty, **WANTS_TO_END}
    completion = make().generate("hello", **options)
    assert END not in completion.tokens[:num]
    assert completion.tokens[num] == END
    assert completion.finish_reason == "stop"


def test_tokens_that_stop_do_not_come_earlier(make):
    stops = {"stop_token_ids": [97], "logit_bias": {97: 100.0}, "max_tokens": 9}
    completion = make().generate("hello", min_tokens=4, **stops)
    assert 97 not in completion.tokens[:4]
    assert completion.tokens[4:] == (97,)


def test_a_row_is_as_long_as_it_must_be_in_any_company(make):
    engine = make()
    alone = [engine.generate("hello", min_tokens=num, max_tokens=12, **WANTS_TO_END) for num in range(6)]
    together = [engine.submit("hello", min_tokens=num, max_tokens=12, **WANTS_TO_END) for num in range(6)]
    assert [generation.result().tokens for generation in together] == [completion.tokens for completion in alone]


@pytest.mark.parametrize(("pattern", "num", "text"), [("a*", 5, "aaaaa"), ("a{2}", 5, "aa"), ("a{3,4}b?", 4, "aaa")])
def test_a_form_goes_on_as_long_as_it_can(make, pattern, num, text):
    completion = make().generate(
        "hello", grammar=Regex(pattern), min_tokens=num, max_tokens=12, temperature=1.0, seed=1, logit_bias={END: 100.0}
    )
    assert completion.text.startswith(text)
    assert len(completion.tokens) >= min(num, len(text))
    assert completion.finish_reason == "stop"


def test_stop_strings_do_not_count_earlier(make):
    forced = {"logit_bias": {97: 100.0}, "max_tokens": 9, "stop": ["aa"]}
    early = make().generate("hello", **forced)
    late = make().generate("hello", min_tokens=5, **forced)
    shown = make().generate("hello", min_tokens=5, include_stop=True, **forced)
    assert (early.text, early.tokens) == ("", (97, 97))
    assert (late.text, late.tokens, late.stopped_by) == ("aaa", (97,) * 5, "aa")
    assert (shown.text, shown.tokens) == ("aaaaa", (97,) * 5)


def test_more_than_there_may_be_is_refused(make):
    for options in ({"min_tokens": 5, "max_tokens": 4}, {"min_tokens": -1}, {"min_tokens": 129}):
        with pytest.raises(InvalidRequest) as refused:
            make().submit("hello", **options)
        assert refused.value.param == "min_tokens"
