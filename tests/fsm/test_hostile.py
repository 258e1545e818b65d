"""Specifications from strangers: each is answered, by a grammar that can be walked or by a typed error, in bounded
time and memory. All of them run in one child process whose memory and time are bounded by the operating system."""

# ruff: noqa: E501 - the cases are a table, one row each

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemma.fsm import CompiledGrammar, FormError, LimitError, Limits, Matcher, Vocabulary, compile
from stemma.fsm.choices import Choices
from stemma.fsm.ebnf import EBNF
from stemma.fsm.errors import GrammarError, RegexError, SchemaError, UnsupportedSchema
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.kernels.loader import kernels
from stemma.fsm.languages.structural_tags import FreeText
from stemma.fsm.lark import Lark
from stemma.fsm.regex import Regex

GIB = 1 << 30
SECONDS = 60  # a hang ends; on an idle machine each takes less than eight


def schema(value: Any, **options: Any) -> JSONSchema:
    return JSONSchema(value if isinstance(value, str) else json.dumps(value), **options)


def nested(count: int, inner: str, key: str) -> str:
    return f'{{"{key}":' * count + inner + "}" * count


def chain(count: int) -> dict[str, Any]:
    """`$ref` to `$ref` to ... an integer."""
    links: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{count}": {"type": "integer"}}}


def doubled(count: int, keyword: str) -> dict[str, Any]:
    """Definitions each of which names the next one twice."""
    links: dict[str, Any] = {f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{count}": {"type": "integer"}}}


def wide() -> dict[str, Any]:
    """30,000 properties, five million characters."""
    return {f"name{i}": {"type": "integer", "minimum": i, "description": "x" * 100} for i in range(30_000)}


def ring(count: int) -> dict[str, Any]:
    """Definitions that refer to each other all around, five million characters."""
    links = {f"d{i}": {"type": "object", "description": "y" * 100, "properties": {"n": {"$ref": f"#/$defs/d{i * 7 % count}"}}}
             for i in range(count)}  # fmt: skip
    return {"$ref": "#/$defs/d1", "$defs": links}


ANSWERED: dict[str, Callable[[], Any]] = {
    "a chain of 100 references": lambda: schema(chain(100)),
    "a NUL in a schema": lambda: schema({"enum": ["a\x00b"], "title": "\x00"}),
    "a NUL in a pattern": lambda: schema({"pattern": "\x00+"}),
    "a NUL in a regex": lambda: Regex("a\x00*"),
    "(a|a)*b": lambda: Regex("(a|a)*b"),
    "nested counts": lambda: Regex("((a{0,200}){0,200}){0,200}"),
    "nested stars": lambda: Regex("(?:" * 90 + "a" + ")*" * 90),
    "(a?){1000}a{1000}": lambda: Regex("(a?){1000}a{1000}"),
    "300 optional letters": lambda: Regex("a?" * 300 + "a" * 300),
    "a count far away": lambda: Regex("(a|b)*a(a|b){300}"),
    "a count of counts": lambda: Regex("(x{1000}){1000}"),
    "100,000 letters": lambda: Regex("a" * 100_000),
    "5,000 alternatives": lambda: Regex("|".join(f"x{i * 7919}y*" for i in range(5_000))),
    "a pattern of 5,000 words": lambda: schema({"pattern": "^(" + "|".join(f"x{i * 7919}" for i in range(5_000)) + ")$"}),
    "a pattern of 90 kB": lambda: schema({"pattern": "a*b" * 30_000}),
    "a class of 5,000 ranges": lambda: Regex("[" + "".join(chr(0x4E00 + 2 * i) for i in range(5_000)) + "]*"),
    "100,000 enum values": lambda: schema({"enum": [f"value {i * 7919 % 1000003}" for i in range(100_000)]}),
    "30,000 excluded values": lambda: schema({"not": {"enum": [f"value {i * 7919 % 1000003}" for i in range(30_000)]}}),
    "30,000 objects": lambda: schema({"enum": [{"a": i} for i in range(30_000)]}),
    "10,000 choices": lambda: Choices([f"choice {i * 7919 % 1000003}" for i in range(10_000)]),
    "choices that begin each other": lambda: Choices(["a" * i for i in range(3_000)]),
    "nesting": lambda: schema(nested(250, "{}", "items")),
    "not of not": lambda: schema(nested(150, '{"type":"string"}', "not")),
    "not of a deep constant": lambda: schema('{"not":{"const":' + "[" * 300 + "]" * 300 + "}}"),
    "twice the same, 60 times": lambda: schema(doubled(60, "allOf")),
    "multiples of 1e-300": lambda: schema('{"multipleOf":1e-300}'),
    "a huge bound": lambda: schema('{"type":"integer","minimum":1' + "0" * 300 + "}"),
    "maxLength 10^9": lambda: schema('{"type":"string","maxLength":1000000000,"pattern":"^a(b|c)*$"}'),
    "maxLength 10^100": lambda: schema('{"type":"string","maxLength":1e100}'),
    "minLength 10^9": lambda: schema('{"type":"string","minLength":1000000000}'),
    "maxItems 10^9": lambda: schema('{"type":"array","maxItems":1000000000}'),
    "maxProperties 10^6": lambda: schema('{"type":"object","maxProperties":1000000,"properties":{"a":{}}}'),
    "60 different values": lambda: schema({"uniqueItems": True, "items": {"enum": list(range(60))}, "type": "array"}),
    "some of 30 different values": lambda: schema({"type": "array", "uniqueItems": True, "minItems": 10,
        "items": {"enum": list(range(30))}, "contains": {"const": 3}}),
    "30,000 properties": lambda: schema({"type": "object", "properties": wide()}),
    "30,000 required properties": lambda: schema({"type": "object", "properties": wide(), "required": list(wide())}),
    "30,000 closed properties": lambda: schema({"properties": wide(), "type": "object", "additionalProperties": False}),
    "30,000 items": lambda: schema({"prefixItems": list(wide().values())}),
    "30,000 definitions": lambda: schema(ring(29_999)),
    "3,000 constants": lambda: schema({"anyOf": [{"const": f"c{i}", "title": f"the {i}th"} for i in range(3_000)]}),
    "900 discriminated objects": lambda: schema({"oneOf": [
        {"type": "object", "properties": {"k": {"const": i}}, "required": ["k"]} for i in range(900)]}),
    "1,000 parts of one object": lambda: schema({"allOf": [{"properties": {f"p{i}": {}}} for i in range(1_000)]}),
    "EBNF, twice the same, 60 times": lambda: EBNF(
        "root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(60)) + '\nr60 ::= "e"'),
    "EBNF, 20,000 rules": lambda: EBNF(
        "root ::= r0\n" + "\n".join(f'r{i} ::= "x{i}" r{i + 1}?' for i in range(20_000)) + '\nr20000 ::= "e"'),
    "EBNF, nested counts": lambda: EBNF('root ::= (("a"{0,200}){0,200}){0,200}'),
    "EBNF, left recursion": lambda: EBNF('root ::= root root | "a"'),
    "EBNF, 2^60 empty texts": lambda: EBNF(
        "root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(60)) + '\nr60 ::= "e"?'),
}  # fmt: skip

REFUSED: dict[str, tuple[Callable[[], Any], type[FormError]]] = {
    "a chain of 10,000 references": (lambda: schema(chain(10_000)), LimitError),
    "a reference to itself": (lambda: schema({"$ref": "#"}), SchemaError),
    "a ring of references": (lambda: schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}), SchemaError),
    "another document": (lambda: schema({"$ref": "http://example.com/x.json"}), UnsupportedSchema),
    "a lone surrogate, value": (lambda: schema('{"enum":["\\ud800"]}'), SchemaError),
    "a lone surrogate, name": (lambda: schema('{"properties":{"\\ud800":{}}}'), SchemaError),
    "a lone surrogate, required": (lambda: schema('{"required":["\\ud800"]}'), SchemaError),
    "a lone surrogate, pattern": (lambda: schema('{"pattern":"\\ud800"}'), SchemaError),
    "a lone surrogate, reference": (lambda: schema('{"$ref":"#/\\ud800"}'), SchemaError),
    "a lone surrogate, regex": (lambda: Regex("\ud800"), RegexError),
    "a lone surrogate, EBNF": (lambda: EBNF('root ::= "\ud800"'), GrammarError),
    "a lone surrogate, Lark": (lambda: Lark('start: "\ud800"'), GrammarError),
    "a lone surrogate, marker": (lambda: FreeText(("\ud800",)), FormError),
    "a lone surrogate, choice": (lambda: Choices(["\ud800"]), FormError),
    "look-aheads": (lambda: Regex("".join(f"(?=.*{chr(97 + i)})" for i in range(16)) + ".*"), LimitError),
    "groups": (lambda: Regex("(" * 5_000 + "a" + ")" * 5_000), RegexError),
    "100,000 stars": (lambda: Regex("a*" * 100_000), LimitError),
    "empty parts, counted": (lambda: Regex("(" + "a*" * 20_000 + "){0,7}"), LimitError),
    "deep JSON": (lambda: schema(nested(100_000, "{}", "items")), LimitError),
    "deep schema": (lambda: schema(json.loads(nested(400, "{}", "items"))), LimitError),
    "a deep constant": (lambda: schema('{"const":' + "[" * 900 + "]" * 900 + "}"), LimitError),
    "9^9 alternatives": (lambda: schema({"allOf": [{"anyOf": [{"required": [f"{i}{j}"]} for j in range(9)]} for i in range(9)]}), LimitError),
    "2^30 alternatives": (lambda: schema({"allOf": [{"anyOf": [{"minLength": i}, {"pattern": f"a{i}"}]} for i in range(30)]}), LimitError),
    "2^60 alternatives": (lambda: schema(doubled(60, "anyOf")), LimitError),
    "2^20 conditions": (lambda: schema({"allOf": [{"if": {"required": [f"p{i}"]}, "then": {"required": [f"q{i}"]}} for i in range(20)]}), LimitError),
    "1,000 dependencies": (lambda: schema({"dependentRequired": {f"p{i}": [f"p{i + 1}"] for i in range(1_000)}}), LimitError),
    "many multiples": (lambda: schema({"allOf": [{"type": "integer", "multipleOf": p} for p in (2, 3, 5, 7, 11, 13, 17, 19, 23)]}), LimitError),
    "a large divisor": (lambda: schema('{"multipleOf":123456789}'), LimitError),
    "an endless number": (lambda: schema('{"minimum":1e999999999}'), SchemaError),
    "a number of 100,000 digits": (lambda: schema('{"const":' + "9" * 100_000 + "}"), SchemaError),
    "NaN": (lambda: schema('{"minimum":NaN}'), SchemaError),
    "minItems 10^6": (lambda: schema('{"type":"array","minItems":1000000}'), LimitError),
    "minContains 10^6": (lambda: schema('{"type":"array","contains":{"const":1},"minContains":1000000}'), LimitError),
    "minProperties 10^6": (lambda: schema('{"type":"object","minProperties":1000000}'), LimitError),
    "minLength 10^100": (lambda: schema('{"type":"string","minLength":1e100}'), LimitError),
    "100 patterns": (lambda: schema({"type": "object", "patternProperties": {f"^x{i}": {"type": "integer"} for i in range(100)}}), LimitError),
    "EBNF, groups": (lambda: EBNF("root ::= " + "(" * 3_000 + '"a"' + ")" * 3_000), GrammarError),
}  # fmt: skip


def bytewise() -> Vocabulary:
    """All bytes, a few words and an end."""
    words = [b"name", b'":', b'","', b"value ", b"aaaa", b"xx", b"12", b"},{"]
    end = 256 + len(words)
    return Vocabulary([*(bytes([byte]) for byte in range(256)), *words, None], {"<|end|>": end}, [end])


def walked(grammar: CompiledGrammar, seed: int) -> None:
    """Forty random tokens, then the shortest end: no dead end, no error but a typed one."""
    draw = random.Random(seed)
    matcher = Matcher(grammar)
    row = np.zeros(grammar.vocabulary.num_words, np.uint32)
    try:
        for _ in range(40):
            matcher.mask_into(row)
            allowed = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()
            assert allowed, f"stuck after {matcher.output!r}"
            assert matcher.advance(draw.choice(allowed))
            if matcher.is_finished:
                return
        matcher.shortest_completion(200)
    except LimitError:
        pass


def answered(name: str) -> str:
    """`walked`, or the name of the typed error. What is not a `FormError` goes through."""
    if name in ANSWERED:
        walked(compile(ANSWERED[name](), bytewise()), 0)
        return "walked"
    make, expected = REFUSED[name]
    with pytest.raises(expected) as caught:
        Matcher(compile(make(), bytewise())).shortest_completion(0)
    return type(caught.value).__name__ if len(str(caught.value)) < 2_000 else "too long a message"


def in_child() -> None:
    """Answers every case and says so, a line each."""
    import resource
    import signal

    kernels()  # before the clock starts
    resource.setrlimit(resource.RLIMIT_AS, (6 * GIB, 6 * GIB))
    for name in [*ANSWERED, *REFUSED]:
        signal.alarm(SECONDS)  # ends the process: a kernel cannot be interrupted
        try:
            outcome = answered(name)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        print(json.dumps([name, outcome[:500]]), flush=True)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    command = [sys.executable, str(Path(__file__)), "child"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    return dict(json.loads(line) for line in found.stdout.splitlines()) | {"last words": found.stderr[-500:]}


@pytest.mark.parametrize("name", ANSWERED)
def test_it_is_answered(name: str, outcomes: dict[str, str]) -> None:
    assert outcomes.get(name, f"no answer: {outcomes['last words']}") == "walked"


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_a_typed_error(name: str, outcomes: dict[str, str]) -> None:
    expected = REFUSED[name][1]
    kinds = {kind.__name__ for kind in (expected, *expected.__subclasses__())}
    assert outcomes.get(name, f"no answer: {outcomes['last words']}") in kinds


def test_limits_are_the_users_to_set() -> None:
    with pytest.raises(LimitError, match="more than 100 states"):
        compile(Regex("a" * 200), bytewise(), Limits(states=100))


if __name__ == "__main__" and sys.argv[1:] == ["child"]:
    in_child()
