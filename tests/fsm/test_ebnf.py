"""GBNF, construct by construct: what is read, what is refused by line, special tokens; the same as llguidance reads."""

from __future__ import annotations

import itertools

import llguidance
import pytest
from llguidance.gbnf_to_lark import gbnf_to_lark

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.ebnf import EBNF
from stemma.fsm.errors import FormError, GrammarError
from stemma.fsm.lark import Lark

CASES: dict[str, tuple[str, str, str]] = {  # a grammar, texts that it reads, texts that it does not, split at blanks
    "at most": ('root ::= "a"{,2} "b"', "b ab aab", "aaab a"),
    "at least": ('root ::= "a"{2,}', "aa aaaa", "a"),
    "exactly": ('root ::= ("a" | "b"){ 2 }', "ab ba aa", "a aba"),
    "between": ('root ::= [ab]{1, 2}', "a ba", "aba"),
    "a repeat of a repeat": ('root ::= "a"{2}* "b"', "b aab aaaab", "ab"),
    "names as converters write them": ('root ::= 1-kv | -x | a_b\n1-kv ::= "1"\n-x ::= "2"\na_b ::= "3"', "1 2 3", "4"),
    "alternatives over lines": ('root ::= "a" |\n  "b"\n  | ("c"\n | "d")\n\nx ::= "e"', "a b c d", "e"),
    "comments": ('# first\nroot ::= "#a" # last "b"\n  # between\n  | "b"', "#a b", "a"),
    "escapes": (r'root ::= "\x41\u00e9\U0001F600\\\"\[\]"', 'Aé😀\\"[]', "A"),
    "escapes in classes": (r"root ::= [\]\[\\\x2d\u00e9]", "] [ \\ - é", "x2d a"),
    "classes": ("root ::= [a-c_-] [^a-c] .", "a-x _xé --a", "aax dxx"),
    "any character": ("root ::= . .", "é😀 ab", "a"),
    "left recursion": ('root ::= root "+" root | [0-9]', "1 1+2+3", "1+ +"),
    "empty": ('root ::= "" "a" | ()  "b"', "a b", "ab"),
}  # fmt: skip


def accepts(machine: Automaton, text: str) -> bool:
    return machine.is_accepting(machine.step_bytes(machine.start, text.encode()))


@pytest.mark.parametrize("name", CASES)
def test_reads(name: str) -> None:
    grammar, read, refused = CASES[name]
    machine = Automaton(EBNF(grammar).grammar())
    assert [text for text in read.split() if not accepts(machine, text)] == []
    assert [text for text in refused.split() if accepts(machine, text)] == []


def test_white_space_by_escapes() -> None:
    machine = Automaton(EBNF(r'root ::= "\n\t\r" [\n\t]').grammar())
    assert accepts(machine, "\n\t\r\t")
    assert not accepts(machine, "ntrn")


SAME = {
    'root ::= "a"{2,} | [^a]{1,2} "b"?': "abc",
    'root ::= ("a" | one){2} two*\none ::= "b" "a"\ntwo ::= "c" | # comment\n  "b"': "abc",
    "root ::= [a-b]+ [^a-c]? .": "abcd",
    r'root ::= "\x61\n" | [\x62-\x63]{3}': "abc\n",
    'root ::= a-1\na-1 ::= "(" a-1 ")" | "x"': "()x",
}


@pytest.mark.parametrize("grammar", SAME)
def test_llguidance_reads_the_same(grammar: str) -> None:
    machine = Automaton(EBNF(grammar).grammar())
    theirs = llguidance.LLMatcher(
        llguidance.LLTokenizer("byte"), llguidance.LLMatcher.grammar_from_lark(gbnf_to_lark(grammar))
    )
    assert not theirs.get_error()
    for letters in itertools.chain.from_iterable(itertools.product(SAME[grammar], repeat=n) for n in range(5)):
        text = "".join(letters)
        reader = theirs.deep_copy()
        data = list(text.encode())
        is_read = reader.try_consume_tokens(data) == len(data) and reader.is_accepting()
        assert accepts(machine, text) == is_read, text


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('root ::= "a"\n  "\\x4"', 2, "x takes 2 hexadecimal"),
        ('root ::= "a"\n\n  [\\u12]', 3, "u takes 4 hexadecimal"),
        ('root ::= "\\ud800"', 1, "no character"),
        ('root ::= "a"\nroot2 ::= (?!"b")', 2, "look-ahead is not supported"),
        ('root ::= "a" [b', 1, "cannot read"),
        ('root ::= "a"{1,x}', 1, "cannot read"),
        ('root ::= "a"\n= "b"', 2, "cannot read"),
        ('root ::= "a"\n| ::= "b"', 2, "unexpected '::='"),
        ('root ::= !</think> "a"', 1, r"needs a \* or \+"),
        ("root ::= !</think>{2}", 1, r"needs a \* or \+"),
    ],
)  # fmt: skip
def test_refuses_by_line(text: str, line: int, message: str) -> None:
    with pytest.raises(GrammarError, match=f"line {line}: .*{message}"):
        EBNF(text).grammar()


THINK, NO_THINK, ROLE, CONTROL = 257, 258, 259, 260


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """Bytes, an end, `<think>` and `</think>`, an ordinary token that looks like one, a token without a name."""
    tokens = [*(bytes([byte]) for byte in range(256)), None, None, None, b"<role>", None]
    return Vocabulary(tokens, {"<|end|>": 256, "<think>": THINK, "</think>": NO_THINK}, [256])


def read_by(form: EBNF | Lark, tokens: list[int], vocabulary: Vocabulary) -> bool:
    matcher = Matcher(compile(form, vocabulary))
    return all(matcher.advance(token) for token in tokens) and matcher.is_complete


@pytest.mark.parametrize(
    "form",
    [
        EBNF('root ::= <think> !</think>* </think> "a"'),
        EBNF(f'root ::= <[{THINK}]> inner <[{NO_THINK}]> "a"\ninner ::= !<[{NO_THINK}]>*'),
        Lark('start: <think> !</think>* </think> "a"'),
        Lark(f'start: <[{THINK}]> inner <[{NO_THINK},{NO_THINK}-{NO_THINK}]> "a"\ninner: !<[{NO_THINK}]>*'),
    ],
)
def test_special_tokens_by_text_and_by_id(form: EBNF | Lark, vocabulary: Vocabulary) -> None:
    thought = list("so < é".encode())
    assert read_by(form, [THINK, *thought, NO_THINK, ord("a")], vocabulary)
    assert read_by(form, [THINK, NO_THINK, ord("a")], vocabulary)
    assert not read_by(form, [THINK, *thought, ord("a")], vocabulary)
    assert not read_by(form, [THINK, THINK, NO_THINK, ord("a")], vocabulary)
    assert not read_by(form, [*b"<think>", NO_THINK, ord("a")], vocabulary)


@pytest.mark.parametrize("form", [EBNF("root ::= <role> <[97]>"), EBNF(f"root ::= <[{ROLE}]> <[97]>")])
def test_an_ordinary_token_is_its_text(form: EBNF, vocabulary: Vocabulary) -> None:
    assert read_by(form, [ROLE, 97], vocabulary)
    assert read_by(form, [*b"<role>", 97], vocabulary)
    assert not read_by(form, [ROLE, 98], vocabulary)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("root ::= <[999]>", "no token: ids go from 0 to 260"),
        (f"root ::= <[{CONTROL}]>", "neither a text nor a name"),
        ("root ::= !<role>*", "only a special token can be excluded"),
        ("root ::= !<[97]>*", "only a special token can be excluded"),
        ("root ::= <other>", "does not have: <other>"),
        ("root ::= !<other>*", "does not have: !<other>"),
    ],
)
def test_tokens_that_cannot_be_asked_for(text: str, message: str, vocabulary: Vocabulary) -> None:
    with pytest.raises(FormError, match=message):
        compile(EBNF(text), vocabulary)
