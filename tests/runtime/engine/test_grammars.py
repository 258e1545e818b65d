"""Guided generation through the engine: whatever the model says, the output is in the language."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pytest

from stemma.fsm import FormError
from stemma.fsm.syntax import ast
from stemma.runtime.errors import GrammarFailed, InvalidRequest


@dataclass(frozen=True)
class Spec:
    """A grammar from its start node."""

    start: ast.Node

    def grammar(self) -> ast.Grammar:
        return ast.Grammar(self.start, lambda rule: ast.Literal(str(rule).encode()))


DIGITS = ast.Characters(((48, 57),))
PRICE = Spec(
    ast.Concatenation((ast.Literal(b'{"price": '), ast.Repeat(DIGITS, 1, 4), ast.Literal(b', "currency": "EUR"}')))
)
PRICE_PATTERN = re.compile(r'\{"price": \d{1,4}, "currency": "EUR"\}')


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_the_output_is_in_the_language(make, temperature):
    engine = make()
    prompts = [f"prompt {index}" for index in range(8)]
    for completion in engine.generate(prompts, max_tokens=60, grammar=PRICE, temperature=temperature, seed=1):
        assert PRICE_PATTERN.fullmatch(completion.text)
        assert completion.finish_reason == "stop"
        usage = completion.usage
        assert usage.decoded_tokens + usage.jumped_tokens == usage.completion_tokens == len(completion.tokens)


def test_without_jump_forward_every_token_is_sampled(make):
    usage = make(jump_forward=False).generate("prompt", max_tokens=60, grammar=PRICE).usage
    assert usage.jumped_tokens == 0
    assert usage.decoded_tokens == usage.completion_tokens > 20
    assert make().generate("prompt", max_tokens=60, grammar=PRICE).usage.jumped_tokens > 0


def test_max_tokens_too_short_is_reported(make):
    completion = make().generate("x", max_tokens=5, grammar=PRICE)
    assert completion.finish_reason == "length"
    assert completion.text == '{"pri'


ITEM = ast.Concatenation((ast.Literal(b'"'), ast.Repeat(ast.Characters(((97, 122),)), 1, 40), ast.Literal(b'"')))
REST = ast.Repeat(ast.Concatenation((ast.Literal(b","), ITEM)), 0, None)
WORDS = Spec(ast.Concatenation((ast.Literal(b"["), ITEM, REST, ast.Literal(b"]"))))


@pytest.mark.parametrize("max_tokens", [5, 6, 17, 40, 41])
@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_an_output_can_be_made_to_finish_in_time(make, max_tokens, temperature):
    options = {"max_tokens": max_tokens, "temperature": temperature, "seed": 3, "finish_in_time": True}
    for completion in make().generate([f"prompt {index}" for index in range(6)], grammar=WORDS, **options):
        assert completion.finish_reason == "stop"
        assert all(word.isalpha() for word in json.loads(completion.text))
        assert len(completion.tokens) <= max_tokens


def test_an_output_that_can_never_finish_in_time_ends_by_its_length(make):
    assert make().generate("x", grammar=WORDS, max_tokens=4, finish_in_time=True).finish_reason == "length"


def test_guided_and_free_requests_share_a_batch(make):
    engine = make()
    free = engine.generate("free", max_tokens=20).tokens
    generations = [engine.submit("x", max_tokens=60, grammar=PRICE), engine.submit("free", max_tokens=20)]
    assert PRICE_PATTERN.fullmatch(generations[0].result().text)
    assert generations[1].result().tokens == free


def test_guided_output_is_the_same_preempted_and_resumed(make):
    expected = [item.tokens for item in make().generate(["a", "b", "c", "d"], max_tokens=60, grammar=PRICE)]
    squeezed = make(kv_tokens=80, block_size=4)
    assert [item.tokens for item in squeezed.generate(["a", "b", "c", "d"], max_tokens=60, grammar=PRICE)] == expected


def test_every_token_has_a_logprob_when_asked(make):
    completion = make().generate("x", max_tokens=60, grammar=PRICE, logprobs=0)
    assert [item.token for item in completion.logprobs] == list(completion.tokens)


@pytest.mark.parametrize("options", [{}, {"stop": ["l"]}, {"max_tokens": 2}])
def test_a_prompt_is_scored_though_all_of_the_output_is_forced(make, options):
    engine, word = make(), Spec(ast.Literal(b"hello"))
    scored = engine.generate("abcd", grammar=word, prompt_logprobs=1, **options)
    assert [each.token for each in scored.prompt_logprobs] == list(b"bcd")
    assert scored.tokens == engine.generate("abcd", grammar=word, **options).tokens


def test_a_grammar_that_matches_nothing_is_refused(make):
    with pytest.raises(InvalidRequest, match="no text fulfils"):
        make().generate("x", grammar=Spec(ast.Choice(())))


@dataclass(frozen=True)
class DeadEnd:
    """Behind some text it asks for what is empty, which is found only where it gets there."""

    before: ast.Node

    def grammar(self):
        return ast.Grammar(ast.Concatenation((self.before, ast.RuleRef("nothing"))), lambda _: ast.Choice(()))


@pytest.mark.parametrize("jump_forward", [True, False])
@pytest.mark.parametrize("before", [ast.Literal(b"ab"), ast.Repeat(ast.Literal(b"x"), 1, 3), DIGITS])
def test_a_dead_end_is_an_error_with_its_place_and_never_an_end(make, before, jump_forward):
    engine = make(jump_forward=jump_forward)
    other = engine.submit("x", max_tokens=60, grammar=PRICE)
    with pytest.raises(
        GrammarFailed, match=r"no token .* can follow in the grammar (after \d+ tokens of|at the start of the) output"
    ):
        engine.generate("x", grammar=DeadEnd(before), max_tokens=20)
    with pytest.raises(GrammarFailed, match="no token"):
        engine.generate("x", grammar=DeadEnd(before), max_tokens=20, finish_in_time=True)
    assert PRICE_PATTERN.fullmatch(other.result().text)


def test_a_grammar_that_cannot_be_read_is_refused(make):
    class Unreadable:
        def grammar(self):
            raise FormError("no such thing")

    with pytest.raises(InvalidRequest, match="no such thing") as refused:
        make().generate("x", grammar=Unreadable())
    assert refused.value.param == "grammar"


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_jumps_on_and_off_are_one_language_and_what_jumped_is_canonical(make, temperature):
    options = {"max_tokens": 60, "grammar": PRICE, "temperature": temperature, "seed": 7}
    prompts = [f"prompt {index}" for index in range(6)]
    jumping, asking = make(drafts_from=("none",)), make(drafts_from=("none",), jump_forward=False)
    for completion in jumping.generate(prompts, **options):
        assert PRICE_PATTERN.fullmatch(completion.text)
        assert completion.usage.jumped_tokens == len(completion.jumped) > 20
        again = jumping.loaded.tokenizer.encode_continuation(completion.text)
        assert [again[index] for index in completion.jumped] == [completion.tokens[at] for at in completion.jumped]
    for completion in asking.generate(prompts, **options):
        assert PRICE_PATTERN.fullmatch(completion.text)
        assert completion.usage.jumped_tokens == 0
        assert completion.usage.decoded_tokens == len(completion.tokens)
    assert jumping.stats().metrics.num_steps < asking.stats().metrics.num_steps


def test_what_is_remembered_of_grammars_is_bounded_in_bytes(make, monkeypatch):
    """They grow with what is generated by them: each number of this form is a configuration of its own."""
    grammars = make()._submitter._grammars
    number = ast.Repeat(ast.Characters(((48, 57),)), 0, 3_000)
    forms = [Spec(ast.Concatenation((ast.Literal(f"{index}:".encode()), number))) for index in range(20)]
    monkeypatch.setattr("stemma.runtime.engine.grammars.LOOKUPS_A_COUNT", 1)
    limit = 20 * grammars.matcher(forms[0]).grammar.num_bytes
    monkeypatch.setattr("stemma.runtime.engine.grammars.MAX_COMPILED_BYTES", limit)
    for form in forms:
        matcher = grammars.matcher(form)
        while matcher.advance(grammars.vocabulary.tokenize(b"1")[0]) and len(matcher.output) < 200:
            pass
        grammars.matcher(form)
        assert sum(compiled.num_bytes for compiled in grammars._compiled.values()) <= limit
    assert 1 < len(grammars._compiled) < len(forms)
    assert grammars.matcher(forms[-1]).grammar is matcher.grammar  # the last one used is still there
