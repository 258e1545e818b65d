"""Choices, EBNF, Lark and structural tags: what they accept, and how they refuse."""

import keyword
from typing import Any

import pytest

from stemma.fsm import Vocabulary, compile
from stemma.fsm.choices import Choices
from stemma.fsm.ebnf import EBNF
from stemma.fsm.errors import FormError, GrammarError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.structural_tags import FreeText, StructuralTags, Tag
from stemma.fsm.lark import Lark
from stemma.fsm.regex import Regex
from stemma.fsm.syntax.ast import Grammar, Special
from stemma.fsm.syntax.recogniser import Recogniser


def accepted(grammar: Grammar, texts: list[str]) -> list[str]:
    recogniser = Recogniser(grammar.rule)
    return [text for text in texts if recogniser.matches(grammar.start, text)]


def test_choices() -> None:
    grammar = Choices([f"choice {number}" for number in range(2_000)]).grammar()
    texts = ["choice 0", "choice 1999", "choice", "choice 2000", "choice 19990"]
    assert accepted(grammar, texts) == ["choice 0", "choice 1999"]


@pytest.mark.parametrize("values", [[], "abc", ["\ud800"], [1]])
def test_choices_refuse(values: list[str]) -> None:
    with pytest.raises(FormError):
        Choices(values)


ARITHMETIC = r"""
# comment
root ::= expression "\n"?
expression ::= expression [-+] term
    | term
term ::= term ("*" | "/") factor | factor
factor ::= number | "(" expression ")"
number ::= "-"? [0-9]{1,3} ("." [0-9]+)?
"""
JSON_LARK = r"""
?start: value
?value: object | array | string | SIGNED_NUMBER -> number | "true" | "false" | "null"
array: "[" [value ("," value)*] "]"
object: "{" [pair ("," pair)*] "}"
pair: string ":" value
string: ESCAPED_STRING
%import common.ESCAPED_STRING
%import common (SIGNED_NUMBER, WS)
%ignore WS
"""


def test_ebnf() -> None:
    texts = ["1", "1+2*3", "-12.5*(3-4)/5\n", "(1", "1+", "1234", "1 + 2", ""]
    assert accepted(EBNF(ARITHMETIC).grammar(), texts) == ["1", "1+2*3", "-12.5*(3-4)/5\n"]


def test_ebnf_escapes_and_classes() -> None:
    grammar = EBNF(r'root ::= "\x41\u00e9\"" [^a-c\]\n] . <|end|>?').grammar()
    assert accepted(grammar, ['Aé"dx', 'Aé"ax', 'Aé"]x', 'Aé"-\n']) == ['Aé"dx', 'Aé"-\n']


def test_lark() -> None:
    texts = ['{"a": [1, -2.5e3, "x\\"y"], "b": null}', " []", "[1,]", '{"a" 1}', "{}", "true false"]
    assert accepted(Lark(JSON_LARK).grammar(), texts) == [texts[0], " []", "{}"]


def test_lark_terminals_repeats_and_left_recursion() -> None:
    grammar = Lark('start: start "," ITEM | ITEM\nITEM.2: ("a".."c"~2 | /x+/i | "end"i)~1..2\n').grammar()
    texts = ["ab", "abc", "xX", "ENDab", "ab,END,xx", "ab,", "a", "ababab"]
    assert accepted(grammar, texts) == ["ab", "xX", "ENDab", "ab,END,xx"]


KEYWORDS = "|".join(keyword.kwlist)


@pytest.mark.parametrize(
    ("spec", "line", "message"),
    [
        (EBNF('root ::= a\na ::= "x" b'), 2, "'b' is not defined"),
        (EBNF('root ::= ("x"'), 1, "missing"),
        (EBNF('root ::= "x"\nroot ::= "y"'), 2, "twice"),
        (EBNF('a ::= "x"'), 1, "'root'"),
        (EBNF("root ::= b\nb ::= c\nc ::= b"), 3, "no text fulfils"),
        (EBNF('root ::= "x"? root "y"'), 1, "no text fulfils"),
        (EBNF("root ::= " + "(" * 300), 1, "nested"),
        (EBNF("root ::= [z-a]"), 1, "backwards"),
        (EBNF('root ::= "x"{3,2}'), 1, "minimum"),
        (EBNF("root ::= @"), 1, "cannot read"),
        (Lark("start: A"), 1, "not defined"),
        (Lark('start: "a" (\n"b"'), 1, "not closed"),
        (Lark("%declare X\nstart: X"), 1, "%declare"),
        (Lark("start: /(a)\\1/"), 1, "back-reference"),
        (Lark("start: X\n%import python.stmt"), 2, "python.stmt is not known"),
        (Lark("%import .other.X\nstart: X"), 1, "no file"),
        (Lark("%import other.X\nstart: X"), 1, "no library 'other', only common, unicode, python"),
        (Lark("%import common\nstart: X"), 1, "nothing of common"),
        (Lark('start: x{"b"}\nx{a, b}: a'), 1, "takes 2 arguments, not 1"),
        (Lark('start: x{"b"}\nx{a, a}: a'), 2, "there twice"),
        (Lark('start: x{"b"}\nx{start}: start'), 2, "name of a rule"),
        (Lark('start: x{"b"}\nx{a}: "c" x{x{a}} | a'), 2, "recurs with ever more"),
        (Lark('start: A\nA: "a" b\nb: "b"'), 2, "cannot be part of a terminal"),
        (Lark('start: A\nA: "a" A?'), 2, "refers to itself"),
        (Lark('start: A\nA: "a" -> b'), 2, "no alias"),
        (Lark("start: A\nA: <|end|>"), 2, "in a rule"),
        (Lark('start: "a"\nA{x}: x'), 2, "cannot be a template"),
        (Lark("start: /a/l"), 1, "the flag 'l'"),
        (Lark("start: /^a/m"), 1, "anchors with the flag m"),
        (Lark("start: /a\nb/"), 1, "over several lines only with the flag x"),
        (Lark('start: "b".."a"'), 1, "range"),
        (Lark('start: "a"~3..2'), 1, "minimum"),
        (Lark('start: "\\x4"'), 1, "2 hexadecimal digits"),
        (Lark('start: "a" )'), 1, r"unexpected '\)'"),
        (Lark('start: "a"\nstart: "b"'), 2, "%override"),
        (Lark('start: "a"\n%extend b: "b"'), 2, "not defined yet"),
        (Lark('start: "a"\n__b: "b"'), 2, "reserved"),
        (Lark('start "a"'), 1, "expected ':'"),
        (Lark('start: "a"\n%other X'), 2, "%other is not known"),
        (Lark("start: /\\bif/"), 1, "stands before the terminal"),
        (Lark('start: "b"\n  | A\nA: "a"*'), 3, "may read nothing"),
        (Lark("start: /a?/"), 1, "may read nothing"),
        (Lark('start: ""'), 1, "may read nothing"),
        (Lark('start: "a"\n%ignore /\\s*/'), 2, "may read nothing"),
        (Lark('start: "a"\n  | A\nA: /(.|ab){9000}/'), 3, "more than 20000 characters"),
        (Lark('start: "a" A\nA: /b(?!b)b/'), 2, "no text fulfils the rule 'A'"),
        (Lark('start: A "b"\nA: /a(?!b)/'), 2, "no text fulfils the rule 'A'"),
        (Lark(f"start: NAME+\nNAME: /(?!({KEYWORDS})\\b)\\w+/"), 2, "the terminal NAME: .* in too many ways"),
        (Lark('start: "a" "-x"\n%ignore " "\n%ignore /-(->)?/'), 3, "may go on with"),
    ],
)
def test_refuses_by_line(spec: EBNF | Lark, line: int, message: str) -> None:
    with pytest.raises(GrammarError, match=f"line {line}: .*{message}") as caught:
        spec.grammar()
    assert caught.value.line == line


WEATHER = Tag(
    "<call=weather>", JSONSchema({"properties": {"city": {"enum": ["Rom"]}}, "required": ["city"]}), "</call>"
)
CLOCK = Tag("<call=clock>", Regex("[0-9]{2}"), "</call>")


def test_structural_tags() -> None:
    texts = [
        "", "just text <cal", "a <call=clock>12</call> b <call=weather>{\"city\":\"Rom\"}</call>",
        "<call=other>", "<call=clock>x</call>", "<<call=clock>12</call>", "<call=clock>12",
    ]  # fmt: skip
    grammar = StructuralTags((WEATHER, CLOCK), ("<call=",)).grammar()
    assert accepted(grammar, texts) == ["", texts[1], texts[2], "<<call=clock>12</call>"]


def test_structural_tags_at_least_one_and_only_one() -> None:
    grammar = StructuralTags((CLOCK,), at_least_one=True, only_one=True).grammar()
    assert accepted(grammar, ["", "x", "x<call=clock>12</call>", "<call=clock>12</call>x"]) == [
        "x<call=clock>12</call>"
    ]


def test_structural_tags_from_json_and_special_tokens() -> None:
    value = {"structures": [{"begin": "<f>", "schema": {"type": "integer"}, "end": "</f>"}], "triggers": ["<f"]}
    assert accepted(StructuralTags.from_json(value).grammar(), ["a<f>1</f>", "<f>x</f>"]) == ["a<f>1</f>"]
    with pytest.raises(FormError, match="structures"):
        StructuralTags.from_json({"triggers": []})
    grammar = StructuralTags((Tag(Special("<|call|>"), CLOCK.form, Special("<|end|>")),)).grammar()
    assert accepted(grammar, ["<|call|>12", "12"]) == ["<|call|>12", "12"]  # as text, never as the special token


def test_think_blocks_stop_at_their_marker() -> None:
    think = Tag("<think>", FreeText(("</think>",)), "</think>")
    grammar = StructuralTags((think,), at_least_one=True, only_one=True).grammar()
    assert accepted(grammar, ["<think>so </thin > is < it</think>", "<think>a</think>b</think>"]) == [
        "<think>so </thin > is < it</think>"]  # fmt: skip


@pytest.mark.parametrize(
    "tags", [StructuralTags(()), StructuralTags((CLOCK,), ("<other",)), StructuralTags((CLOCK,), ("",))]
)
def test_structural_tags_refuse(tags: StructuralTags) -> None:
    with pytest.raises(FormError):
        tags.grammar()


@pytest.mark.parametrize(
    "form",
    [
        EBNF('root ::= "a" | other\nother ::= "b" (<|missing|> "c")*'),
        Lark("start: other?\nother: <|missing|>"),
        StructuralTags((Tag("<f>", EBNF("root ::= <|missing|>"), "</f>"),)),
        StructuralTags((Tag("<f>", Regex("a"), Special("<|missing|>")),)),
    ],
)
def test_special_tokens_that_the_vocabulary_lacks_are_refused_when_compiled(form: Any) -> None:
    lacking = Vocabulary([bytes([byte]) for byte in range(256)] + [None], {"<|end|>": 256}, [256])
    with pytest.raises(FormError, match=r"special tokens that the vocabulary does not have: <\|missing\|>"):
        compile(form, lacking)
    having = Vocabulary([bytes([b]) for b in range(256)] + [None] * 2, {"<|end|>": 256, "<|missing|>": 257}, [256])
    assert compile(form, having).start
