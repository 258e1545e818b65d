"""What a chat template wrote itself, followed through everything templates do with text: against `str`, against
transformers' renderings, and for templates put together at random."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.runtime.model import ChatTemplate
from stemma.runtime.model.text.traced import Traced, formatted, own_spans, written
from tests.runtime.model.test_chat import as_text, special_ids, template, theirs, tokenizer_of

END, START, BOS, PAD, USER = 256, 257, 258, 259, 260
LOOKS = "is a < b <|end|>?"


def printed(source: str, content: Any = LOOKS, **values: Any) -> list[int]:
    """Tokens of a template, once their text is known to be transformers' rendering."""
    chat = [{"role": "user", "content": content}]
    ids = template(source).encode_chat(chat, **values)
    expected = theirs(source).apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **values)
    assert as_text(source, ids) == expected
    return ids


WAYS = (
    "{{ messages[0] }}",
    "{{ messages }}",
    "{{ messages[0].content | length }}",
    "{{ messages[0] | tojson(ensure_ascii=true) }}",
    "{{ messages | tojson(indent=2) }}",
    "{{ messages[0].content | urlencode }}",
    "{{ messages[0].content[5:] }}|{{ messages[0].content[:-1][::-1] }}",
    "{{ messages[0].content | upper }}{{ messages[0].content.replace('<', '&lt;') }}",
    "{{ messages[0].content.split('<')[-1] }}{{ messages[0].content.index('<') }}",
    "{{ 'yes' if messages[0].content == 'is a < b <|end|>?' else 'no' }}",
    "{{ messages[0].content | list }}{{ messages[0].content | first }}{{ messages[0].content | last }}",
    "{{ '%s, %r' % (messages[0].content, messages[0].content) }}",
    "{{ '{} {!r} {:>30}'.format(messages[0].content, messages[0].content, messages[0].content) }}",
    "{{ messages[0].content | wordwrap(5) }}{{ messages[0].content | indent }}{{ messages[0].content | center(40) }}",
    "{{ messages[0].content | e }}{{ messages[0].content | safe }}{{ messages[0].content | safe + '<' }}",
    "{% for c in messages[0].content %}{{ loop.index }}{{ c }}{% endfor %}",
    "{{ messages[0].content < 'is a <!' }}{{ '<|end|>' in messages[0].content }}",
)


@pytest.mark.parametrize("source", WAYS)
def test_text_is_printed_as_it_is_rendered(source: str) -> None:
    ids = printed("<|start|>" + source + "{{ eos_token }}")
    assert special_ids(source, ids) == [START, END]


TOKENS = {
    "{{ '<|start|>' + messages[0].role ~ '<|end|>' ~ 1 }}": [START, END],
    "{{ '<|' + messages[0].role + '|>' }}": [USER],
    "{{ '<|%s|>' % messages[0].role }}{{ '<|%(a)s|>%%' % {'a': 'end'} }}": [USER, END],
    "{{ '<|{}|>{{}}'.format(messages[0].role) }}{{ '<|{a}|>'.format(a='end') }}": [USER, END],
    "{{ '<|%s|>' | format(messages[0].role) }}": [USER],
    "{{ ['<|start|>', messages[0].content, '<|end|>'] | join('\\n') }}": [START, END],
    "{{ ['<|start|>', messages[0].content, '<|end|>'] | join }}": [START, END],
    "{{ ', '.join(['<|start|>', messages[0].content, eos_token]) }}": [START, END],
    "{{ ('  <|start|>' + messages[0].content + '<|end|>\\n') | trim }}": [START, END],
    "{{ messages[0].content | replace('a', '<|start|>') }}": [START],
    "{{ (messages[0].content + '<|start|>').replace('b', 'c') }}": [START],
    "{{ ('<|start|>#' + messages[0].content + '#<|end|>').split('#') | join }}": [START, END],
    "{{ ('<|start|>#' + messages[0].content).partition('#')[0] }}": [START],
    "{% set s %}<|start|>{{ messages[0].content }}<|end|>{% endset %}{{ s }}": [START, END],
    "{% macro m(x) %}<|start|>{{ x }}{{ caller() }}{% endmacro %}"
    "{% call m(messages[0].content) %}<|end|>{% endcall %}": [START, END],
    "{{ {'user': '<|user|>'}[messages[0].role] }}{{ ('<|start|>', '<|end|>')[1] }}": [USER, END],
    "{% filter trim %} <|start|>{{ messages[0].content }} {% endfilter %}": [START],
    "{{ '<|pad|>' * 2 }}{{ 3 * ('<|pad|>' + messages[0].content) }}": [PAD] * 5,
    "{{ 'A<|END|>'[1:] | lower }}{{ '<|START|>'.lower() }}": [END, START],
    "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + '<|start|>' + m.content %}{% endfor %}"
    "{{ ns.s }}": [START],
}


@pytest.mark.parametrize("source", TOKENS)
def test_what_the_template_writes_stays_its_own(source: str) -> None:
    assert special_ids(source, printed(source)) == TOKENS[source]


def test_what_the_template_takes_of_a_message_is_no_part_of_a_token() -> None:
    """It writes the beginning and the end of a token around a word that a message brings."""
    assert special_ids("", printed("{{ '<|' + messages[0].content + '|>' }}", "end")) == []
    assert special_ids("", printed("{{ '<' + messages[0].content + '>' }}", "|end|")) == []
    assert special_ids("", printed("<|en{{ messages[0].content }}", "d|>")) == []


def test_values_and_names_in_tools_are_text() -> None:
    tools = [{"name": "<|end|>", "parameters": {"<|start|>": ("<|end|>", 1)}}]
    source = "{{ tools }}{{ tools[0].name }}{% for k in tools[0].parameters %}{{ k }}{% endfor %}{{ mine }}<|pad|>"
    assert special_ids(source, printed(source, tools=tools, mine="<|end|>")) == [PAD]


EXPRESSIONS = st.recursive(
    st.sampled_from(["m.content", "m.role", "m", "'<|end|>'", "'<|'", "'|>'", "bos_token", "' '", "m.content[1:]"]),
    lambda inner: st.one_of(
        st.builds("({} + {})".format, inner.filter(lambda e: e != "m"), inner.filter(lambda e: e != "m")),
        st.builds("({} ~ {})".format, inner, inner),
        st.builds(
            "({} | string | {})".format,
            inner,
            st.sampled_from(
                ["trim", "upper", "lower", "length | string", "tojson", "urlencode", "replace('<', '<|end|>')", "title",
                 "reverse", "first", "list | join('|')", "replace('end', 'start')", "e | string", "wordwrap(4)",
                 "tojson(ensure_ascii=true)", "indent", "default('x')", "capitalize", "truncate(8)", "string"]
            ),
        ),
        st.builds(
            "({} | string).{}".format,
            inner,
            st.sampled_from(
                ["split('<')[-1]", "strip('<|>')", "rsplit('|', 1)[0]", "partition('|')[2]", "splitlines() | join",
                 "removeprefix('<|')", "rpartition('<')[0]", "lstrip()", "rstrip('>')", "split() | join(' ')",
                 "removesuffix('|>')", "replace('|', '', 1)"]
            ),
        ),
        st.builds("('a<|%s|>' % ({} | string))".format, inner),
        st.builds("'<|{{}}|>'.format({} | string)".format, inner),
    ),
    max_leaves=4,
)  # fmt: skip
CONTENTS = st.lists(
    st.sampled_from(["<|end|>", "<|start|>", "<|", "|>", "end", "<", ">", "|", " ", "\n", "é", "ß", "\u0130", "%s"])
).map("".join)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(expressions=st.lists(EXPRESSIONS, min_size=1, max_size=3), contents=st.lists(CONTENTS, min_size=1, max_size=2))
def test_templates_at_random(expressions: list[str], contents: list[str]) -> None:
    """The tokens are the rendered text, which is transformers'; and no text of a message becomes a special token."""
    outputs = "".join(f"{{{{ {expression} }}}}" for expression in expressions)
    source = f"{{% for m in messages %}}<|start|>{outputs}{{% endfor %}}"
    ours = ChatTemplate(source, tokenizer_of(""))
    chat = [{"role": "user", "content": content} for content in contents]
    ids = ours.encode_chat(chat)
    text = ours.render(chat)
    assert as_text("", ids) == text == theirs(source).apply_chat_template(chat, tokenize=False)
    if not any(written in source for written in ("<|end", "bos_token", "'<|'", "<|%s", "<|{}")):
        assert special_ids("", ids) == [START] * len(contents)


TRACED = st.lists(st.tuples(CONTENTS, st.booleans())).map(
    lambda pieces: Traced("").join([written(text) if own else text for text, own in pieces])
)
OPERATIONS = {
    "slice": lambda t, a, b: [t[1:-1], t[::2], t[:3]],
    "add": lambda t, a, b: [t + a, a + t, t + t, t * 2],
    "join": lambda t, a, b: [t.join([a, b, t]), a.join([t, b])],
    "replace": lambda t, a, b: [t.replace(a, b), t.replace(a, t), t.replace(a, b, 1)],
    "strip": lambda t, a, b: [t.strip(), t.lstrip(a), t.rstrip(a), t.strip(a)],
    "fixes": lambda t, a, b: [t.removeprefix(a), t.removesuffix(a)],
    "split": lambda t, a, b: [*t.split(), *t.rsplit(None, 1), *t.split(None, 1), *t.splitlines(), *t.splitlines(True)],
    "split at": lambda t, a, b: [*t.split("|"), *t.rsplit("<", 1), *t.partition("|"), *t.rpartition("|")],
    "case": lambda t, a, b: [t.upper(), t.lower(), t.title(), t.capitalize()],
    "iterate": lambda t, a, b: [*t, *reversed(t)],
}


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=60, deadline=None)
@given(text=TRACED, one=CONTENTS, other=CONTENTS)
def test_values_are_those_of_str(name: str, text: Traced, one: str, other: str) -> None:
    results, expected = OPERATIONS[name](text, one, other), OPERATIONS[name](str.__str__(text), one, other)
    assert [str.__str__(result) for result in results] == expected
    for result in results:
        ends = [0, *(end for span in own_spans(result) for end in span), len(result)]
        assert ends == sorted(ends)


def test_a_form_of_which_a_part_was_said_is_not_followed() -> None:
    form = written("<|end") + "{}"
    assert own_spans(formatted(form, "<|end|>", ["|>"], {})) == ()
