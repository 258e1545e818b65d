"""Chat templates against transformers, and what must hold whatever messages say."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.model import ChatTemplate, Tokenizer
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.files.gguf_file import read_gguf
from stemma.runtime.model.files.hugging_face import read_folder_tokenizer
from stemma.runtime.model.pull import default_model
from stemma.runtime.model.tiny import byte_tokenizer
from tests.runtime.model import templates

Chat = list[dict[str, Any]]
MORE = ("<|user|>", "<|assistant|>", "<|system|>")
NOT_SPECIAL = ("<think>", "</think>", "<tool_response>")


def files(source: str) -> TokenizerFiles:
    """Bytes, the tiny tokenizer's special tokens, some more, and added tokens that are not special."""
    base = byte_tokenizer()
    added = list(base.spec["added_tokens"])
    for token in (*MORE, *NOT_SPECIAL):
        added.append({**added[0], "id": 256 + len(added), "content": token, "special": token in MORE})
    return TokenizerFiles({**base.spec, "added_tokens": added}, base.special, False, source)


@cache
def tokenizer_of(source: str) -> Tokenizer:
    return Tokenizer(files(source), 300)


@cache
def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, tokenizer_of(source))


@cache
def theirs(source: str) -> transformers.PreTrainedTokenizerFast:
    described = files(source)
    built = tokenizers.Tokenizer.from_str(json.dumps(described.spec))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, chat_template=source, clean_up_tokenization_spaces=False, **described.special
    )


CHATS: dict[str, Chat] = {
    "one": [{"role": "user", "content": "Hi there"}],
    "spaces": [{"role": "user", "content": "  Hi\n\n"}],
    "turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello! 🙂"},
        {"role": "user", "content": "a < b > c | d [INST]"},
    ],
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
}


@pytest.mark.parametrize("source", templates.ALL.values(), ids=templates.ALL)
@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_same_as_transformers(source: str, chat: Chat, add_generation_prompt: bool) -> None:
    ours, oracle = template(source), theirs(source)
    options: dict[str, Any] = {"add_generation_prompt": add_generation_prompt}
    assert ours.render(chat, **options) == oracle.apply_chat_template(chat, tokenize=False, **options)
    assert ours.encode_chat(chat, **options) == oracle.apply_chat_template(chat, return_dict=False, **options)


def test_tools_and_values_are_passed() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "<b>é</b> & 'x'", "parameters": {}}}]
    ours, oracle = template(templates.TOOLS), theirs(templates.TOOLS)
    chat = CHATS["one"]
    assert ours.render(chat, tools=tools) == oracle.apply_chat_template(
        chat, tools=tools, tokenize=False, add_generation_prompt=True
    )
    thinking = template(templates.THINKING)
    assert thinking.render(chat, enable_thinking=False).endswith("<think>\n\n</think>\n\n")
    assert not thinking.render(chat).endswith("</think>\n\n")


def test_the_real_template() -> None:
    checkpoint = read_gguf(default_model())
    source = checkpoint.tokenizer.chat_template
    assert source is not None
    tokenizer = Tokenizer(checkpoint.tokenizer, checkpoint.config.vocab_size)
    ids = ChatTemplate(source, tokenizer).encode_chat([{"role": "user", "content": "Hi<|im_end|>"}])
    system = "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    newline = tokenizer.encode("\n")
    assert ids == [
        1, *tokenizer.encode(system), 2, *newline, 1, *tokenizer.encode("user\nHi<|im_end|>"), 2, *newline,
        1, *tokenizer.encode("assistant\n"),
    ]  # fmt: skip


# What messages say stays text -----------------------------------------------------------------------------------------
def special_ids(source: str, ids: list[int]) -> list[int]:
    return [token for token in ids if token in tokenizer_of(source).special.values()]


HOSTILE = st.lists(
    st.sampled_from(
        ["<|end|>", "<|start|>", "<|bos|>", "</think>", "<think>", "<tool_response>", "<|user|>", "<|", "|>", "end",
         "start|>", "<|end", "<", ">", "|", " ", "\n", "x", "é", "[/INST]"]
    )
).map("".join)  # fmt: skip


@pytest.mark.parametrize("source", templates.ALL.values(), ids=templates.ALL)
@settings(max_examples=80, deadline=None)
@given(contents=st.lists(HOSTILE, min_size=1, max_size=3))
def test_messages_never_become_special_tokens(source: str, contents: list[str]) -> None:
    """The special tokens are those of the same chat with harmless contents, and the text is what the template wrote."""
    roles = ["user", "assistant", "user"]
    chat: Chat = [{"role": role, "content": said} for role, said in zip(roles, contents, strict=False)]
    harmless: Chat = [{**message, "content": _harmless(message["content"])} for message in chat]
    ours = template(source)
    ids = ours.encode_chat(chat)
    assert special_ids(source, ids) == special_ids(source, ours.encode_chat(harmless))
    assert as_text(source, ids) == ours.render(chat)


def _harmless(text: str) -> str:
    """Without anything a special token could come of; as empty as before, as that is what templates ask."""
    return "".join("x" if character in "<|>" else character for character in text)


def as_text(source: str, ids: list[int]) -> str:
    names = {token["id"]: token["content"].encode() for token in files(source).spec["added_tokens"]}
    return b"".join(names.get(token) or bytes([token]) for token in ids).decode()


def test_what_a_template_cuts_is_cut_as_before() -> None:
    """The answer's thoughts are cut at the token, though the token in it is marked; the rest stays text."""
    chat = [
        {"role": "user", "content": "<tool_response>1</think>"},
        {"role": "assistant", "content": "<think>hm<|end|></think>\n\nyes <|start|>"},
    ]
    ids = template(templates.THINKING).encode_chat(chat, add_generation_prompt=False)
    start, end = 257, 256
    expected = [
        start,
        *b"tool\n<tool_response>1</think>",
        end,
        *b"\n",
        start,
        *b"assistant\nyes <|start|>",
        end,
        *b"\n",
    ]
    assert ids == expected


def test_parts_do_not_join_into_a_special_token() -> None:
    parts = [{"type": "text", "text": text} for text in ("<|e", "nd", "|>", "<|", "end|>", "<", "|end|>")]
    ids = template(templates.TOOLS).encode_chat([{"role": "user", "content": parts}], add_generation_prompt=False)
    assert ids == [257, *b"user\n<|end|><|end|><|end|>", 256, *b"\n"]


def test_what_is_left_of_a_text_is_no_special_token() -> None:
    """A template that cuts something out of a text leaves its two ends side by side."""
    source = "{% for m in messages %}<|start|>{{ m.content | replace('IMAGE', '') | replace('\\n', '') }}{% endfor %}"
    ids = template(source).encode_chat([{"role": "user", "content": "<|eIMAGEnd|> <|\nend|> <IMAGE|start|>"}])
    assert ids == [257, *b"<|end|> <|end|> <|start|>"]


def test_tools_do_not_become_special_tokens() -> None:
    tools = [{"name": "<|end|>", "properties": {"<|start|>": 1}}]
    ids = template(templates.TOOLS).encode_chat(CHATS["one"], tools=tools)
    assert special_ids(templates.TOOLS, ids) == [257, 256, 257, 256, 257]
    assert as_text(templates.TOOLS, ids).count("<|end|>") == 3


def test_roles_are_words() -> None:
    """A template may make a special token of a role (`'<|' + role + '|>'`), so a role must not bring its own."""
    ids = template(templates.ROLE_TOKENS).encode_chat(CHATS["one"])
    assert special_ids(templates.ROLE_TOKENS, ids) == [260, 256, 261]
    for role in ("user|>x<|end", "", "a b", None):
        with pytest.raises(ChatTemplateError, match="is not a word"):
            template(templates.ROLE_TOKENS).encode_chat([{"role": role, "content": "x"}])
    with pytest.raises(ChatTemplateError, match="is not a word"):
        template(templates.ROLE_TOKENS).render([{"content": "x"}])


# A chat that goes on ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["chatml", "trimming", "tools", "role tokens", "thinking"])
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(HOSTILE.map(str.strip).filter(lambda text: "think>" not in text), min_size=2, max_size=6))
def test_turns_extend_what_was_there(name: str, texts: list[str]) -> None:
    ours = template(templates.ALL[name])
    texts = [text or "x" for text in texts]
    roles = ("user", "assistant")
    chat: Chat = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    whole = ours.encode_chat(chat)
    for length in range(1, len(chat) + 1, 2):
        prompt = ours.encode_chat(chat[:length])
        assert whole[: len(prompt)] == prompt
        if length < len(chat):
            answer = tokenizer_of(templates.ALL[name]).encode_continuation(chat[length]["content"])
            assert whole[len(prompt) : len(prompt) + len(answer)] == answer


def test_an_answer_is_encoded_as_it_was_generated() -> None:
    """Behind the prompt's line feed an answer may begin with another: together they would be one token."""
    checkpoint = read_gguf(default_model())
    assert checkpoint.tokenizer.chat_template is not None
    tokenizer = Tokenizer(checkpoint.tokenizer, checkpoint.config.vocab_size)
    ours = ChatTemplate(checkpoint.tokenizer.chat_template, tokenizer)
    chat = [{"role": "user", "content": "Hi"}]
    prompt = ours.encode_chat(chat)
    answer = "\n\nHello <|im_end|>"
    more = [*chat, {"role": "assistant", "content": answer}, {"role": "user", "content": "a<|im_start|>"}]
    ids = ours.encode_chat(more)
    generated = tokenizer.encode_continuation(answer)
    assert tokenizer.encode("\n" + answer) != [*tokenizer.encode("\n"), *generated]  # so the next line could fail
    assert ids[: len(prompt) + len(generated) + 1] == [*prompt, *generated, 2]


# Templates that do not work -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "source", ["{% if documents is not none %}DOCS{% endif %}{{ documents is defined }}",
               "{{ sep_token }}|{{ cls_token }}|{{ mask_token }}|{{ bos_token }}"],
)  # fmt: skip
def test_what_nobody_says_is_what_transformers_says(source: str, tmp_path: Path) -> None:
    """Documents are none, not undefined; special texts have all their names."""
    spec = {**files(source).spec, "added_tokens": [{**files(source).spec["added_tokens"][0], "content": "<|sep|>"}]}
    names = {"sep_token": "<|sep|>", "cls_token": {"content": "<|sep|>", "__type": "AddedToken"}, "mask_token": "m"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**names, "chat_template": source}))
    read = read_folder_tokenizer(tmp_path)
    oracle = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(spec)), chat_template=source,
        sep_token="<|sep|>", cls_token="<|sep|>", mask_token="m",
    )  # fmt: skip
    found = ChatTemplate(source, Tokenizer(read, 300)).render(CHATS["one"])
    assert found == oracle.apply_chat_template(CHATS["one"], tokenize=False)
    assert found in ("True", "<|sep|>|<|sep|>|m|")


def test_a_refusal_is_told() -> None:
    chat = [{"role": "assistant", "content": "x"}]
    with pytest.raises(ChatTemplateError, match="refuses these messages: roles must alternate"):
        template(templates.INSTRUCTION).encode_chat(chat)


def test_a_message_without_content_is_told() -> None:
    with pytest.raises(ChatTemplateError, match="refuses these messages"):
        template(templates.CHATML).encode_chat([{"role": "user"}])


def test_a_broken_template_is_told() -> None:
    with pytest.raises(ChatTemplateError, match="cannot be read"):
        ChatTemplate("{% for x in %}", Tokenizer(byte_tokenizer(), 260))


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source: str) -> None:
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source, Tokenizer(byte_tokenizer(), 260)).render(CHATS["one"])


def test_generation_tags_are_only_their_contents() -> None:
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    assert ChatTemplate(source, Tokenizer(byte_tokenizer(), 260)).render(CHATS["one"]) == "Hi there"


def test_the_date_is_there() -> None:
    ours = ChatTemplate("{{ strftime_now('%d %b %Y') }}", Tokenizer(byte_tokenizer(), 260))
    around = [f"{datetime.now():%d %b %Y}", ours.render(CHATS["one"]), f"{datetime.now():%d %b %Y}"]
    assert around[1] in (around[0], around[2])  # the two differ at midnight


def test_it_is_known_which_values_a_template_looks_at():
    source = "{% set a = a if a is defined else 1 %}{% if b %}{{ c.d }}{% endif %}{% set e = 1 %}"
    read = ChatTemplate(source, Tokenizer(byte_tokenizer(), 260), "{{ f }}").names_read
    assert {"a", "b", "c", "f"} <= read
    assert not {"d", "e"} & read


@pytest.mark.parametrize("name", ["self", "messages", "tokenize", "chat_template", "eos_token", "raise_exception"])
def test_a_value_whose_name_is_taken_is_refused(name):
    ours = template(templates.CHATML)
    taken = {name: 1}
    for run in (ours.render, ours.encode_chat, lambda chat, **values: ours.encode_after(chat, "x", **values)):
        with pytest.raises(ChatTemplateError, match=name):
            run([{"role": "assistant", "content": "x"}], **taken)


@pytest.mark.parametrize("messages", ["hi", {"role": "user"}, [1], ["user"], [None]])
def test_what_is_no_list_of_messages_is_refused(messages):
    with pytest.raises(ChatTemplateError):
        template(templates.CHATML).encode_chat(messages)
