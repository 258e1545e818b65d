"""Lark's notation, construct by construct, held against `lark`'s own Earley parser: the same texts, no others."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator

import lark
import pytest

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.lark import Lark

MOST_TEXTS = 500  # of one grammar that are enumerated
CASES: dict[str, tuple[str, str, list[str]]] = {  # a grammar, an alphabet to enumerate, further texts
    "texts": ('start: "a" "bc" | "c"', "abc", []),
    "groups": ('start: ("a" | "b") ["c"] ("a" "b")?', "abc", []),
    "repeats": ('start: "a"* "b"+ "c"?', "abc", []),
    "counted": ('start: "a"~2 "b"~1..3 "c"~0..1', "abc", []),
    "counted groups": ('start: ("a" | "bc")~2..3', "abc", []),
    "an inlined rule": ('?start: _pair "c"\n_pair: "a" "b" | "b"', "abc", []),
    "a rule that keeps all": ('!start: "a" "b"?', "ab", []),
    "both modifiers": ('!?start: one | one start\n?!one: "a" "b"', "ab", []),
    "priorities": ('start: a | b\na.2: "x"\nb.-1: "x" Y\nY.-2: "y"\nZ.+3: "z"', "xyz", []),
    "aliases": ('start: "a" -> first\n    | "b" "a" -> second\n    | -> nothing', "ab", []),
    "an alias of alternatives": ('start: "a" | "b" -> other', "ab", []),
    "lines that go on": ('start: "a"\n\n     | "b"\n  // between\n     | "c" \\\n "a"', "abc", []),
    "comments": ('# one\n// two\nstart: "a" // three\n  | "#" # four\n  | "//"', "a#/", []),
    "escapes": ('start: "\\n" | "\\t\\"" | "\\\\" | "\\x41\\u00e9" | "\\U0001f600"', '\n\t"\\', ["Aé", "😀", "A", "n"]),
    "a backslash that escapes nothing": ('start: "\\d" | /\\d/', "\\d1", []),
    "cases": ('start: "ab"i "c"', "abcABC", []),
    "a range": ('start: "b".."d" | "x" "0".."1"+', "abcdx01", []),
    "a range of signs": ('start: "+".."/"', "*+,-./0", []),
    "regular expressions": ("start: /[ab]+c?/ | /x.y/", "abcxy", ["x\ny", "xéy"]),
    "regular expressions in any case": ("start: /a[b-c]/i", "aAbBdC", []),
    "a dot for lines": ("start: /a.b/s", "ab\n", []),
    "a regular expression over lines": ("start: /a  # one\n  b+ # two\n/x", "ab #", []),
    "words of Unicode": ("start: /\\w+/u", "aé_-", ["日本", "1x"]),
    "a slash": ("start: /a\\/b/", "ab/\\", []),
    "quotes in a regular expression": ("start: /\"[^\"']*'/", "\"'a", []),
    "first comes first": ('start: /a|ab/ "c"', "abc", []),
    "first comes first in a terminal": ('start: A "c"\nA: "a" | "ab"', "abc", []),
    "greedy and then optional": ("start: /a?(ab)?c/ /ab?/", "abc", []),
    "lazy": ("start: /a+?b?/ /c?a/", "abc", []),
    "lazy to the end": ('start: /<.*?>/ "a"?', "<>a", []),
    "possessive": ("start: /a*+b/ /c/", "abc", []),
    "a string": ('start: /".*?(?<!\\\\)(\\\\\\\\)*?"/', '"\\a', ['"\\\\\\""', '"a"a"', '"\\"a']),
    "look-behind": ('start: "a" /b.*?(?<!c)d/', "abcd", []),
    "look-behind at two": ("start: /c[abc]+(?<!ab)(?<=c)/", "abc", []),
    "look-ahead": ("start: /(?!ab)[abc]+/", "abc", []),
    "look-ahead for a word": ("start: /(?!if\\b|else\\b)[a-z]+/", "iflse", ["else", "elsea", "ifelse"]),
    "look-ahead inside": ("start: /a(?=b|cc)[abc]+/", "abc", []),
    "look-ahead at the end": ('start: A ("b" | "c")?\nA: /a+(?!b)/', "abc", []),
    "look-ahead at the end, wanted": ('start: A B?\nA: /a+(?=b)/\nB: "b" "c"?', "abc", []),
    "look-ahead at two": ('start: A+ B?\nA: /a(?!ab)/\nB: "b"', "ab", []),
    "look-ahead at any length": ('start: (NAME "a"*)~1..2\nNAME: /(?!ab+c)[ab]+/', "abc", []),
    "look-ahead through rules": ('start: x | start x\nx: y? "c"*\ny: "(" start ")" | A\nA: /a(?!c?\\()/', "ac()", []),
    "look-ahead through repeats": ('start: A B*\nA: /a(?!bbc)/\nB: "b" | "c"', "abc", []),
    "look-ahead through counted repeats": ('start: (A | "b")~2..4\nA: /a(?!bb)/', "ab", []),
    "look-ahead at what is ignored": ('start: A+ "("?\nA: /[ab](?! *\\()/\n%ignore " "', "ab( ", []),
    "look-ahead at the end of the text": ('start: A+ B?\nA: /a(?=b|$)/\nB: "b"', "ab\n", []),
    "look-ahead at the last line": ("start: A /\\n/*\nA: /a$/", "a\n", []),
    "look-ahead before what is preferred": ('start: A ("a" | "b")*\nA: /a(?!b)b?|ab/', "ab", []),
    "several look-aheads": ('start: (A | B)+\nA: /a(?!b)/\nB: /b(?!ba)/', "ab", []),
    "look-aheads in a repeat": (
        'start: "q" (CHARS | "$" | "$a")* "q"\n'
        'CHARS: /(?:(?!\\$\\$a)(?!\\$a)(?!%%a)(?!%a)[^q]|(?:\\$(?!\\$?a))|%(?!%?a))+/',
        "q$%a", ["q$$aq", "q%%aq", "q$a%$q", "qx$q", "q$$$aq", "q$x%ya$q"],
    ),
    "a keyword, or what begins like it": ('start: NAME "f"?\nNAME: /(?!if\\b)[a-z]+/', "if.", ["iff", "iffi"]),
    "a boundary at the end": ('start: "if" NAME | KEY "(" NAME ")"\nKEY: /if\\b/\nNAME: /[f-i]+/', "if()", ["if(g)"]),
    "ignored with look-ahead": ('start: "a" "b"*\n%ignore /c+(?!b)/', "abc", []),
    "ignored up to something": ('start: "a" "b"*\n%ignore /c+?(?=b)/\n%ignore " "', "abc ", []),
    "what never matches is an alternative": ('start: A | "b"\nA: /a(?!b)b/', "ab", []),
    "a boundary inside": ("start: /[ab-]+\\b-a/", "ab-", []),
    "terminals of terminals": ('start: A B\nA: "a" | C\nB: C+ A?\nC: "c"', "abc", []),
    "a terminal with a group": ('start: A+\nA: "a" ("b" | /c+/)~1..2', "abc", []),
    "alternatives leak": ('start: A\nA: /a|b/ "c"', "abc", []),
    "longer alternatives first": ('start: A "c"\nA: "a" | /ab?/ | "abc"', "abc", []),
    "flags in a terminal": ('start: A\nA: "a"i (/b/i | "c")+', "abcABC", []),
    "templates": ('start: _list{"a", ","}\n_list{item, sign}: item (sign item)*', "a,b", []),
    "templates of templates": (
        'start: pair{twice{"a"}, B}\npair{x, y}: x y | y x\ntwice{x}: x x\nB: "b"', "ab", []
    ),
    "templates that recur": ('start: nest{"a"} | nest{B}\nnest{x}: x | "(" nest{x} ")"\nB: "b"', "ab()", []),
    "a template as an argument": ('start: apply{twice, "a"}\napply{f, x}: f{x} "b"\ntwice{x}: x x', "ab", []),
    "ignored": ('start: "a" "b"*\n%ignore " "', "ab ", []),
    "ignored terminals": ('start: A+\nA: "a" "b"\n%ignore WS\nWS: /[ \\n]/+', "ab \n", []),
    "two that are ignored": ('start: "a"~2\n%ignore " "\n%ignore /#[^\\n]*/\n%ignore "\\n"', "a #\n", []),
    "ignored without a terminal": ('start: "a"?\n%ignore " "', "a ", []),
    "nothing ignored in terminals": ('start: AB | "c" /d e/\nAB: "a" "b"\n%ignore " "', "abcde ", ["cd e", "c d e "]),
    "alternatives that are ignored": ('start: "a" "b"\n%ignore " " | "-" "-"', "ab -", []),
    "replaced": ('start: a B\na: "x"\nB: "b"\n%override a: "a"\n%override B: "c"', "abcx", []),
    "extended": ('start: a B\na: "a"\nB: "b"\n%extend a: "x" a\n%extend B: "c"', "abcx", []),
    "a library extended": ("%import common (INT, DIGIT)\nstart: INT\n%extend DIGIT: /[ab]/", "1ab.", []),
    "a library renamed": ("%import common.INT -> NUMERAL\nstart: NUMERAL \",\" NUMERAL", "12,", []),
    "left recursion": ('start: start "+" start | "(" start ")" | "a"', "a+()", []),
    "rules that may be empty": ('start: a b a\na: | "a"\nb: "b"*', "ab", []),
    "cuts in any way": ('start: A B\nA: /a+/\nB: /a+b/', "ab", []),
    "a keyword or a name": ('start: "if" NAME | NAME\nNAME: /[a-z]+/\n%ignore " "', "if ", []),
}  # fmt: skip
LIBRARY = {
    "DIGIT": "0a", "HEXDIGIT": "aFg0", "INT": "01a-", "SIGNED_INT": "+-1", "DECIMAL": "1.-", "FLOAT": "1.eE-",
    "SIGNED_FLOAT": "+1.e", "NUMBER": "1.e-", "SIGNED_NUMBER": "-1.e", "ESCAPED_STRING": '"\\a\n', "LCASE_LETTER": "aZ",
    "UCASE_LETTER": "aZ", "LETTER": "aZé1", "WORD": "aZ1é", "CNAME": "a_1-", "WS_INLINE": " \t\n", "WS": " \t\n\f",
    "CR": "\r\n", "LF": "\r\n", "NEWLINE": "\r\n ", "SH_COMMENT": "#a\n", "CPP_COMMENT": "/a\n", "C_COMMENT": "/*a\n",
    "SQL_COMMENT": "-a\n",
}  # fmt: skip


PYTHON = {
    "STRING": ('STRING+', "rb\"'a\\", ['"a""b"', '""\'\'', '"""', '""""', '""""""', '"\\\\""a"', "rb'a'"]),
    "LONG_STRING": ('LONG_STRING+', '"a\\', ['"""a"""', '"""a""""""b"""', '"""a"""" """', "r'''a'''"]),
    "both": ('"x" (STRING | LONG_STRING)+', 'x"', ['x""""', 'x"""a"""', 'x"a""""b"""', 'x""' * 2, 'x""""""']),
    "DEC_NUMBER": ('DEC_NUMBER ("1" | ".")*', "01_.", ["00.1"]),
    "NAME": ("NAME", "aé1_ ", []),
    "COMMENT": ("COMMENT", "#a\n", []),
    "FLOAT_NUMBER": ("FLOAT_NUMBER", "1_.e+", []),
    "IMAG_NUMBER": ("IMAG_NUMBER", "1_.ej", []),
    "HEX_NUMBER": ("HEX_NUMBER", "0xaF_g", []),
}  # fmt: skip


def enumerated(alphabet: str) -> Iterator[str]:
    """All texts over an alphabet, the shorter ones first."""
    count = 0
    for length in itertools.count():
        for letters in itertools.product(alphabet, repeat=length):
            count += 1
            if count > MOST_TEXTS:
                return
            yield "".join(letters)


def walked(machine: Automaton, draw: random.Random) -> Iterator[str]:
    """Texts that the automaton reads, drawn byte by byte."""
    for _ in range(20):
        config, data = machine.start, bytearray()
        while len(data) < 40:
            ways = machine.row(config).nonzero()[0].tolist()
            if not ways or (machine.is_accepting(config) and draw.random() < 0.2):
                break
            data.append(draw.choice(ways))
            config = machine.step(config, data[-1])
        if machine.is_accepting(config):
            yield data.decode()


def readers(grammar: str) -> tuple[Automaton, lark.Lark]:
    return Automaton(Lark(grammar).grammar()), lark.Lark(grammar, parser="earley", lexer="dynamic_complete")


def reads(parser: lark.Lark, text: str) -> bool:
    try:
        parser.parse(text)
    except lark.exceptions.UnexpectedInput:
        return False
    return True


def compare(grammar: str, alphabet: str, further: list[str]) -> None:
    machine, theirs = readers(grammar)
    drawn = [*walked(machine, random.Random(0))]
    texts = [*enumerated(alphabet), *further, *drawn]
    ours = {text for text in texts if machine.is_accepting(machine.step_bytes(machine.start, text.encode()))}
    assert ours == {text for text in texts if reads(theirs, text)}
    assert ours


@pytest.mark.parametrize("name", CASES)
def test_reads_what_lark_reads(name: str) -> None:
    compare(*CASES[name])


@pytest.mark.parametrize("name", LIBRARY)
def test_common_terminals_are_larks(name: str) -> None:
    compare(f"%import common.{name}\nstart: {name}", LIBRARY[name], [])


@pytest.mark.parametrize("name", PYTHON)
def test_terminals_of_python_are_larks(name: str) -> None:
    start, alphabet, further = PYTHON[name]
    imports = "".join(f"%import python.{each}\n" for each in dict.fromkeys(re.findall("[A-Z_]{2,}", start)))
    compare(f"{imports}start: {start}", alphabet, further)


def test_no_common_terminal_is_left_out() -> None:
    names = {each.split(":")[0].strip() for each in larks_common().splitlines() if ":" in each and each[0].isupper()}
    assert names == set(LIBRARY)


def larks_common() -> str:
    from importlib.resources import files

    return (files("lark") / "grammars" / "common.lark").read_text()
