"""`encode_after`: what a template writes behind an answer, for templates that rewrite the past in their own ways."""

from __future__ import annotations

import pytest

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.model.text.chat import ChatTemplate
from stemma.runtime.model.text.tokenizer import Tokenizer
from stemma.runtime.model.tiny import TEMPLATE, byte_tokenizer

TRIMMING = TEMPLATE.replace("message.content", "(message.content | trim)")
THOUGHTLESS = TEMPLATE.replace(
    "message.content", "(message.content.split('</think>')[-1] if not loop.last else message.content)"
)
CHAT = [
    {"role": "user", "content": "one <|end|>"},
    {"role": "assistant", "content": " <think>hm</think> two <|start|> "},
    {"role": "user", "content": "three <|end|>"},
]
MARKED = [CHAT[0], {"role": "assistant", "content": "MARK"}, CHAT[2]]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(byte_tokenizer(), 260)


@pytest.mark.parametrize("source", [TEMPLATE, TRIMMING, THOUGHTLESS])
def test_what_follows_an_answer_is_told_by_a_mark_in_it(tokenizer, source):
    template = ChatTemplate(source, tokenizer)
    rest = template.encode_after(MARKED, "MARK")
    special = tokenizer.special
    expected = [special["<|end|>"], *b"\n", special["<|start|>"], *b"user\nthree <|end|>", special["<|end|>"], *b"\n"]
    assert rest == [*expected, special["<|start|>"], *b"assistant\n"]


def test_it_ends_the_tokens_of_the_whole_chat(tokenizer):
    template = ChatTemplate(TEMPLATE, tokenizer)
    rest = template.encode_after(MARKED, "MARK", add_generation_prompt=False)
    whole = template.encode_chat(CHAT, add_generation_prompt=False)
    assert whole[-len(rest) :] == rest


def test_a_template_that_drops_answers_is_refused(tokenizer):
    template = ChatTemplate(
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", tokenizer
    )
    with pytest.raises(ChatTemplateError, match="leaves an answer out"):
        template.encode_after(MARKED, "MARK")


def test_what_of_an_answer_stands_behind_the_mark_is_left_out(tokenizer):
    template = ChatTemplate(TEMPLATE, tokenizer)
    marked = [CHAT[0], {"role": "assistant", "content": "two MARK} "}, CHAT[2]]
    assert template.encode_after(marked, "MARK", "} ") == template.encode_after(MARKED, "MARK")
    with pytest.raises(ChatTemplateError, match="leaves an answer out"):
        template.encode_after(marked, "MARK", "]")


def test_a_word_to_mark_with_is_in_neither_template_nor_messages(tokenizer):
    template = ChatTemplate("{% for m in messages %}zq0zq{{ m.content }}{% endfor %}", tokenizer)
    assert template.absent_word([{"role": "user", "content": "zq1zq"}]) == "zq2zq"


@pytest.mark.parametrize("source", [TEMPLATE, TRIMMING, THOUGHTLESS])
def test_a_last_message_that_goes_on_has_nothing_behind_it(tokenizer, source):
    template = ChatTemplate(source, tokenizer)
    open_chat = [*CHAT, {"role": "assistant", "content": "It is <|end|> "}]
    tokens = template.encode_open(open_chat)
    asked = template.encode_chat(CHAT)
    assert tokens[: len(asked)] == asked
    assert tokens[len(asked) :] == [*b"It is <|end|> "]
    assert template.encode_open([*CHAT, {"role": "assistant", "content": ""}]) == asked


def test_a_last_message_that_is_left_out_cannot_go_on(tokenizer):
    template = ChatTemplate(
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", tokenizer
    )
    with pytest.raises(ChatTemplateError, match="cannot go on"):
        template.encode_open(CHAT[:2])


def test_a_content_of_parts_goes_on_as_one_that_is_text(tokenizer):
    source = TEMPLATE.replace(
        "message.content", "(message.content if message.content is string else message.content[0].text)"
    )
    template = ChatTemplate(source, tokenizer)
    parts = [CHAT[0], {"role": "assistant", "content": [{"type": "text", "text": "two"}]}]
    assert template.encode_open(parts) == template.encode_open([CHAT[0], {"role": "assistant", "content": "two"}])
