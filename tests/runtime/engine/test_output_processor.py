"""What callers hear, joined, is the completion, however the request ends."""

from __future__ import annotations

import asyncio

import pytest

from stemma.fsm import FormError, Matcher
from stemma.fsm.choices import Choices
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.regex import Regex
from stemma.runtime.engine.generation import join
from stemma.runtime.errors import GrammarFailed

FORCED_WHOLE = [
    Regex("hello world"),
    Choices(("only",)),
    JSONSchema('{"const": {"a": [1, null], "é": "ü"}}'),
    Regex(""),
]


def both(generation):
    """The deltas joined, and the completion."""
    heard = join(list(generation))
    return heard, generation.result()


def assert_whole(heard, completion):
    assert heard.text == completion.text
    assert heard.tokens == completion.tokens
    assert heard.logprobs == completion.logprobs
    assert heard.prompt_logprobs == completion.prompt_logprobs


@pytest.mark.parametrize("grammar", FORCED_WHOLE, ids=lambda grammar: type(grammar).__name__)
@pytest.mark.parametrize("options", [{}, {"max_tokens": 3}, {"stop": "o"}, {"stop": ["lo wor", "ü"]}, {"stop": "xyz"}])
def test_what_a_grammar_forces_whole_is_heard(make, grammar, options):
    engine = make()
    heard, completion = both(engine.submit("Say: ", grammar=grammar, **{"max_tokens": 40, **options}))
    assert_whole(heard, completion)


def test_what_a_grammar_forces_whole_is_heard_in_asyncio(make):
    async def listen():
        generation = make().submit("Say: ", grammar=Regex("hello world"), max_tokens=40)
        return join([delta async for delta in generation]), await generation

    heard, completion = asyncio.run(listen())
    assert_whole(heard, completion)
    assert heard.text == "hello world"


def test_what_a_grammar_forces_whole_costs_not_even_its_prompt(make):
    usage = make().generate("Say: ", grammar=Regex("hello world"), max_tokens=40).usage
    assert (usage.prompt_tokens, usage.prefilled_tokens, usage.cached_tokens) == (5, 0, 0)
    assert usage.completion_tokens == usage.jumped_tokens == 11


def test_what_a_stop_string_held_back_is_heard_at_an_abort(make):
    engine = make()
    generation = engine.submit("Say: ", grammar=Regex("abcabc[xyz]{500}"), stop="abcabc!", max_tokens=500)
    deltas = iter(generation)
    first = next(deltas)
    generation.cancel()
    heard = join([first, *deltas])
    assert_whole(heard, generation.result())
    assert heard.text.startswith("abcabc")


def test_what_is_forced_when_aborted_before_the_first_step_is_heard(make):
    engine = make()

    def submit_and_cancel(_):
        generation = engine.submit("Say: ", grammar=Regex("hello [xyz]{500}"), max_tokens=500)
        generation.cancel()
        return generation

    heard, completion = both(engine.with_cache(submit_and_cancel))  # between two steps
    assert completion.finish_reason == "abort"
    assert heard.text.startswith("hello")
    assert_whole(heard, completion)


@pytest.mark.parametrize("stop", [None, "}", "é", "nul"])
def test_a_stop_string_in_what_completes_a_form_in_time_ends_it(make, stop):
    grammar = JSONSchema(
        '{"type": "object", "properties": {"a": {"type": "string"}, "é": {"const": null}}, "required": ["a", "é"]}'
    )
    options = {"max_tokens": 24, "finish_in_time": True, "temperature": 1.0, "seed": 5}
    whole = make().generate("Say: ", grammar=grammar, **options)
    heard, completion = both(make().submit("Say: ", grammar=grammar, stop=stop or [], **options))
    assert_whole(heard, completion)
    assert completion.text == (whole.text.split(stop)[0] if stop else whole.text)
    assert (completion.finish_reason, completion.stopped_by) == ("stop", stop)


def test_log_probabilities_of_the_prompt_are_heard_with_the_first_delta(make):
    options = {"logprobs": 1, "prompt_logprobs": 1, "max_tokens": 5, "ignore_eos": True}
    deltas = list(generation := make(max_chunk=16).submit("a prompt of three chunks, long enough", **options))
    assert deltas[0].prompt_logprobs == generation.result().prompt_logprobs != ()
    assert_whole(join(deltas), generation.result())
    heard, completion = both(make().submit("a prompt", max_tokens=0, prompt_logprobs=0))
    assert heard.prompt_logprobs == completion.prompt_logprobs
    assert len(heard.prompt_logprobs) == len("a prompt") - 1


@pytest.mark.parametrize("stop", [[], ["abx"], ["ab!"]])
@pytest.mark.parametrize("num_tokens", [1, 5, 8])
def test_what_came_before_an_error_is_heard(make, monkeypatch, num_tokens, stop):
    engine = make()
    options = {"grammar": Regex("ab[ab]{20}"), "max_tokens": 30, "temperature": 1.0, "seed": 3, "stop": stop}
    options["drafts"] = False  # to verify these advances the matcher as well
    whole, advance = engine.generate("Say: ", **options), Matcher.advance
    count = iter(range(1000))

    def breaks(matcher, token):
        if next(count) >= num_tokens:
            raise FormError("this form breaks here")
        return advance(matcher, token)

    monkeypatch.setattr(Matcher, "advance", breaks)
    generation, heard = engine.submit("Say: ", **options), []
    with pytest.raises(GrammarFailed, match="breaks here"):
        heard.extend(generation)
    joined = join(heard)
    assert whole.text.startswith(joined.text)
    assert joined.tokens == whole.tokens[: len(joined.tokens)]
    assert len(joined.tokens) >= num_tokens - 1
    with pytest.raises(GrammarFailed, match="breaks here"):
        generation.result()
