"""The tokens of a growing transcript: generated ones stay as they are, everything before is extended exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.lang.states.transcript import Encoder, Transcript, keep
from stemma.runtime.errors import ModelError, StateError
from stemma.runtime.model.text.chat import ChatTemplate
from stemma.runtime.model.text.tokenizer import Tokenizer
from stemma.runtime.model.tiny import SPECIAL, TEMPLATE, byte_tokenizer
from stemma.runtime.tongues.recognise import recognise

TOKENIZER = Tokenizer(byte_tokenizer(), 260)
TONGUE = recognise(None, TOKENIZER)
ENCODER = Encoder(TOKENIZER, ChatTemplate(TEMPLATE, TOKENIZER), TONGUE)
START, END = SPECIAL["<|start|>"], SPECIAL["<|end|>"]


def turn(role: str, text: str) -> list[int]:
    return [START, *f"{role}\n{text}".encode(), END, *b"\n"]


def test_turns_are_written_by_the_template():
    chat = Transcript().with_turn("system", "be").with_turn("user", "hi")
    assert list(chat.encode(ENCODER)) == turn("system", "be") + turn("user", "hi")
    answering = chat.answering().encode(ENCODER)
    assert list(answering) == turn("system", "be") + turn("user", "hi") + [START, *b"assistant\n"]


def test_the_beginning_of_an_answer_follows_the_prompt():
    chat = Transcript().with_turn("user", "hi").with_turn("assistant", "Sure")
    assert list(chat.encode(ENCODER)) == [*turn("user", "hi"), START, *b"assistant\nSure"]


def test_text_goes_on_with_the_open_turn():
    chat = Transcript().with_turn("user", "hi").with_text(" there")
    assert list(chat.encode(ENCODER)) == turn("user", "hi there")


def test_text_never_becomes_a_special_token():
    chat = Transcript().with_turn("user", "a<|end|>b")
    assert list(chat.encode(ENCODER)) == turn("user", "a<|end|>b")
    assert END not in Transcript().with_text("<|end|>").encode(ENCODER)


def test_roles_behind_plain_text_are_refused():
    with pytest.raises(StateError, match="plain text"):
        Transcript().with_text("once").with_turn("user", "hi")


def test_roles_without_a_template_are_refused():
    with pytest.raises(ModelError, match="no chat template"):
        Transcript().with_turn("user", "hi").encode(Encoder(TOKENIZER, None, TONGUE))


texts = st.text(st.sampled_from("ab <|end|>\n"), max_size=12)
steps = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant", "text", "generated", "generated"]), texts), max_size=12
)


@given(steps)
def test_generated_tokens_are_never_encoded_again_and_stay_a_prefix(steps):
    """After each generation, all later prompts begin with its prompt and its own tokens, whatever these are."""
    transcript, begins = Transcript(), ()
    for index, (kind, text) in enumerate(steps):
        if kind == "generated":
            transcript = transcript.answering()
            prompt = transcript.encode(ENCODER)
            assert prompt[: len(begins)] == begins
            tokens = tuple(text.encode())[::-1]  # not what encoding the text would give
            transcript = transcript.with_generated(prompt, tokens, text, "")
            begins = prompt + tokens
        elif kind == "text":
            transcript = transcript.with_text(text)
        elif not transcript.is_plain:
            transcript = transcript.with_turn(kind, text)
        assert transcript.encode(ENCODER)[: len(begins)] == begins, index


@given(steps)
def test_it_says_what_the_template_says_of_the_whole_chat(steps):
    """Where the model's tokens are those of its text, the prompt is what encoding the whole chat gives."""
    transcript = Transcript().with_turn("user", "go")
    for kind, text in steps:
        if kind == "generated":
            transcript = transcript.answering()
            tokens = tuple(TOKENIZER.encode_continuation(text))
            transcript = transcript.with_generated(transcript.encode(ENCODER), tokens, text, "")
        elif kind == "text":
            transcript = transcript.with_text(text)
        else:
            transcript = transcript.with_turn(kind, text)
    transcript = transcript.with_turn("user", "end").answering()
    messages = [message._asdict() for message in transcript.messages[:-1]]
    assert list(transcript.encode(ENCODER)) == ENCODER.chat_template.encode_chat(messages)


def test_keep_leaves_out_end_tokens_and_what_a_stop_string_cut():
    assert keep((*b"abc", END), "abc", TOKENIZER) == (tuple(b"abc"), "")
    assert keep(tuple(b"abc\n\n"), "abc", TOKENIZER) == (tuple(b"abc"), "")
    assert keep((), "", TOKENIZER) == ((), "")
    assert keep(tuple("ä".encode())[:1], "�", TOKENIZER) == (tuple("ä".encode())[:1], "")


class Merges:
    """A tokenizer with one token of several bytes."""

    def token_bytes(self, token):
        return {1: b"one", 2: b".\n", 3: b"x"}[token]


def test_a_token_that_a_stop_string_cut_is_given_back_as_text():
    assert keep((1, 2), "one.", Merges()) == ((1,), ".")
    assert keep((1, 3, 2, 3), "onex", Merges()) == ((1, 3), "")
