"""Prompts that were read elsewhere are found by all that they were read from, while their request is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stemma.runtime.model import ModelText, load_text
from stemma.runtime.model.pull import default_model
from stemma.runtime.model.text.chat import ChatTemplate
from stemma.runtime.tongues.recognise import recognise
from stemma.server.prompts.prompter import ChatPrompter, of_chat
from stemma.server.prompts.readings import Reading, Readings
from stemma.server.prompts.turns import TurnMemory
from stemma.server.wire.chat import Message

ASKED = [Message(role="user", content="Hello?")]


@pytest.fixture(scope="module")
def text() -> ModelText:
    return load_text(default_model())


def prompter_of(text: ModelText) -> ChatPrompter:
    tongue = recognise(text.chat_template, text.tokenizer, text.generation.eos_ids)
    return ChatPrompter(text, tongue, TurnMemory(0))


def test_what_was_read_is_found_while_it_is_offered(text):
    there, here = prompter_of(text), prompter_of(text)
    reading = Reading.of(there.readings.key(*of_chat(ASKED, [], None, "prompt")), [1, 2, 3])
    own = here.encode(ASKED, [])
    with here.readings.offered(reading):
        assert here.encode(ASKED, []) == [1, 2, 3]
        with here.readings.offered(reading):
            assert here.encode(ASKED, [], {}) == [1, 2, 3]
        assert here.encode(ASKED, []) == [1, 2, 3]
        assert here.encode(ASKED, [], ending="closed") != [1, 2, 3]
        assert here.encode([*ASKED, *ASKED], []) != [1, 2, 3]
        assert here.encode([Message(role="system", content="Hello?")], []) != [1, 2, 3]
    assert here.encode(ASKED, []) == own


def test_a_plain_text_is_no_chat(text):
    here = prompter_of(text)
    with here.readings.offered(Reading.of(here.readings.key("Hello?"), [4, 5])):
        assert here.encode_text("Hello?") == [4, 5]
        assert here.encode_text("Hello!") != [4, 5]
        assert here.encode(ASKED, []) != [4, 5]


def test_another_template_or_tokenizer_reads_for_itself(text):
    template = text.chat_template
    assert template is not None
    other = replace(text, chat_template=ChatTemplate(template.source + " ", text.tokenizer, template.tool_source))
    ends = replace(text, generation=replace(text.generation, eos_ids=frozenset({3})))
    assert len({Readings(each).fingerprint for each in (text, other, ends)}) == 3
    here = prompter_of(other)
    with here.readings.offered(Reading.of(prompter_of(text).readings.key(*of_chat(ASKED, [], None, "prompt")), [9])):
        assert here.encode(ASKED, []) != [9]


def test_nothing_is_offered_where_nothing_was_read(text):
    here = Readings(text)
    with here.offered(None):
        assert here.find("Hello?") is None
