"""Formats against a validator that asserts them: nothing is written that it refuses, and what people write is."""

# ruff: noqa: RUF001

import json
import random

import jsonschema_rs
import pytest

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.json_schema.formats import FORMATS, format_language, wider_language
from stemma.fsm.syntax.recogniser import Recogniser

LONG = "a" * 63
VALID = {
    "date": ["2024-02-29", "2000-02-29", "1999-12-31", "0001-01-01"],
    "time": [
        "00:00:00Z",
        "23:59:60Z",
        "23:59:60.5z",
        "12:30:00.123456789+05:30",
        "01:29:60+01:30",
        "15:59:60-08:00",
        "00:29:60-23:30",
        "23:29:60+23:30",
        "08:59:60+09:00",
        "00:59:59.999999999999999Z",
    ],
    "date-time": ["2024-02-29T12:34:56Z", "1998-12-31t15:59:60.123-08:00", "2024-01-01T00:00:00.000+00:00"],
    "duration": ["P1Y", "P1Y2M3DT4H5M6S", "PT36H", "P4W", "P0D", "P" + "9" * 78 + "D"],
    "email": [
        "joe.bloggs@example.com",
        "te~st@example.com",
        '"joe bloggs"@example.com',
        "x@[127.0.0.1]",
        "x@[IPv6:::1]",
        "a" * 64 + "@b.co",
        f"a@{LONG}.co",
        '"' + "a" * 62 + '"@b.co',
        "a@b--c.d",
        "o'hara+tag@mail.example.co.uk",
    ],
    "idn-email": [
        "실례@실례.테스트",
        "δοκιμή@example.com",
        '"δοκιμή"@example.com',
        "user@cafe\u0301.com",
        "\x85@example.com",
        "\uffff@example.com",
        "𝕏@example.com",
        "joe.bloggs@example.com",
        "hans@müller-bäckerei.de",
    ],
    "hostname": ["www.example.com", "hostname", "1host", "a--b.com", LONG, ".".join([LONG] * 3) + "." + "b" * 61],
    "idn-hostname": [
        "실례.테스트",
        "www.example.com",
        LONG,
        "a.b",
        "a。b",
        "a．b",
        "a｡b",
        "münchen.de",
        "例え.テスト",
        "müller-bäckerei.de",
        "пример.испытание",
        "क्षेत्र.भारत",
    ],
    "ipv4": ["0.0.0.0", "255.255.255.255", "192.168.1.10"],
    "ipv6": ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::ffff:1.2.3.4", "2001:DB8::8:800:200c:417A"],
    "uri": [
        "https://example.com/a?b=c#d",
        "urn:isbn:1",
        "mailto:a@b",
        "http://[::1]:80/",
        "http://[V1.fe]",
        "a:",
        "file:///x",
    ],
    "uri-reference": ["", "a/b", "/a", "//a", "?a", "#a", "../x", "https://example.com"],
    "iri": ["http://é.example/é?é#é", "http://[V1.fe]", "http://a?\ue000", "http://a/\U000e1000"],
    "iri-reference": ["é", "/é", "#é", "http://é"],
    "uri-template": ["", "http://example.com/{term:1}/{term}", "{+a,b*}", "{v:1000}", "a'b", "a😀b", "{%41.b}"],
    "json-pointer": ["", "/", "/a~0b~1c/0", "/é"],
    "relative-json-pointer": ["0", "0#", "12/a", "1" * 30],
    "uuid": ["00000000-0000-0000-0000-000000000000", "2EB8AA08-aa98-11ea-B4AA-73b441d16380"],
    "regex": [
        "",
        r"([abc])+\s+$",
        r"^\d{3}-\d{4,}$",
        "(?<=a+)b",
        "[^a-z0-9_]*?",
        r"^(?:(?:https?|ftp):\/\/)?[\w.\-]+(?:\.[\w]{2,5})+$",
        r"a|b||",
        "[]",
        "[^]",
        r"\cA\u00e9\p{Lu}",
        "x{1,3}?",
    ],
}
INVALID = {
    "date": ["2023-02-29", "1900-02-29", "2024-13-01", "2024-1-1", ""],
    "time": ["12:00:00", "24:00:00Z", "22:59:60Z", "23:59:60+01:00", "12:00:00.Z", "15:59:60-07:00", "00:30:60+00:30"],
    "date-time": ["2024-02-30T00:00:00Z", "2024-02-29 12:34:56Z", "1998-12-31T23:58:60Z", "2024-02-29T12:34:56"],
    "duration": ["P", "PT", "P1M2W", "P1Y3D", "P1.5Y", "1Y"],
    "email": [
        "a" * 65 + "@b.co",
        f"a@{LONG}b.co",
        '"' + "a" * 63 + '"@b.co',
        ".a@b",
        "a..b@c",
        "a@b_c",
        "a@xn--a.b",
        "a@b.",
        "a@" + ".".join([LONG] * 3) + "." + "b" * 62,
    ],
    "idn-email": ["2962", "user＠example.com", "é" * 65 + "@b", "a@\u0301b", "a@é--b-", "a@☃"],
    "hostname": [
        "",
        "a.",
        ".a",
        "-a",
        "a-",
        "a_b",
        LONG + "a",
        "ab--c",
        "xn--a",
        "xn--X",
        "XN--p1ai",
        "é",
        ".".join([LONG] * 4),
    ],
    "idn-hostname": [
        "〮실례.테스트",
        "실〮례.테스트",
        "xn--X",
        "ab--c",
        "éa--b",
        "-é",
        "é-",
        "\u0300a",
        "ـߺ",
        "a·l",
        "α͵S",
        "☃",
        "。",
        "a。",
        "é" * 60,
        "क\u200dष",
        "・",
    ],
    "ipv4": ["256.0.0.1", "01.2.3.4", "1.2.3"],
    "ipv6": ["1::2::3", "fe80::1%eth0", "12345::", ":::"],
    "uri": ["a", "//a", "http://é", "http://a:b", "http://a b", "http://[::1", "1a:b"],
    "uri-reference": ["a b", ":a", "//a:b", "%", "é"],
    "iri": ["é", "http://a/\ue000", "http://a/\U0001fffe", "http://a/\U000e0001", "http://a/\U000f0000"],
    "iri-reference": ["a b", "\ue000", "\ufdd0"],
    "uri-template": ["{", "}", "{}", "{a,,b}", "{v:0}", "{v:10000}", "a b", "a\x7fb", "{,+var}"],
    "json-pointer": ["a", "/~", "/~2", "#/a"],
    "relative-json-pointer": ["", "01", "-1", "0##", "a"],
    "uuid": ["2eb8aa08aa9811eab4aa73b441d16380", "{00000000-0000-0000-0000-000000000000}"],
    "regex": [
        "^(abc]",
        r"\a",
        "(?P<name>x)",
        "(?#comment)a",
        "(?i)abc",
        "(",
        "a**",
        "a++",
        "[b-a]",
        "{",
        "x{2,1}",
        r"\00",
        "^*",
        r"\u{110000}",
    ],
}
UNWRITTEN = {  # valid, and more than a regular language can tell from what is not
    "hostname": ["xn--p1ai"],
    "idn-hostname": ["א", "l·l", "א׳ב", "xn--ihqwcrb4cv8a8dqg056pqjye"],
    "regex": ["(?<n>a)\\k<n>", "(a)\\1"],
}

LARGE = frozenset(("regex", "idn-email", "idn-hostname"))  # a byte takes milliseconds while kernels are not compiled


def valid(name: str, text: str) -> bool:
    return jsonschema_rs.Draft202012Validator({"format": name}, validate_formats=True).is_valid(text)


def test_every_format_that_the_validator_asserts_is_known() -> None:
    assert set(VALID) == set(INVALID) == FORMATS
    others = ["color", "unknown", "host-name", "ip-address", "style", "phone", "utc-millisec", "int32", "byte", "uuid4"]
    assert all(valid(name, "no such thing \x00 ") for name in others)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_texts_of_a_format(name: str) -> None:
    language, wider = format_language(name), wider_language(name)
    recogniser = Recogniser()
    true = (*VALID[name], *UNWRITTEN.get(name, []))
    assert [text for text in true if not valid(name, text)] == []
    assert [text for text in INVALID[name] if valid(name, text)] == []
    assert [text for text in VALID[name] if not recogniser.matches(language, text)] == []
    assert [text for text in INVALID[name] if recogniser.matches(language, text)] == []
    assert [text for text in true if not recogniser.matches(wider, text)] == []


def written(automaton: Automaton, chance: random.Random, length: int) -> str | None:
    """A random text; None where none of `4 * length` bytes or less came out."""
    config, data = automaton.start, bytearray()
    while len(data) < 4 * length + 12:
        allowed = [byte for byte, after in enumerate(automaton.row(config)) if after > 0]
        if automaton.is_accepting(config) and not allowed:
            return str(json.loads(data))
        assert allowed, f"stuck after {bytes(data)!r}"
        if len(data) > length and 34 in allowed:
            byte = 34
        else:
            beyond = [byte for byte in allowed if byte > 127]
            plain = [byte for byte in allowed if byte <= 127 and (byte != 34 or len(data) > length // 2)]
            byte = chance.choice(beyond if beyond and (not plain or chance.random() < 0.3) else plain or allowed)
        data.append(byte)
        config = automaton.step(config, byte)
    return None


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_whatever_is_written_of_a_format_is_valid(name: str) -> None:
    automaton = Automaton(JSONSchema({"type": "string", "format": name}).grammar())
    chance = random.Random(name)
    num_walks, lengths = (10, [3, 6, 12]) if name in LARGE else (40, [3, 8, 20, 40])
    texts = [written(automaton, chance, chance.choice(lengths)) for _ in range(num_walks)]
    known = [text for text in texts if text is not None]
    assert len(known) >= num_walks / 5
    assert [text for text in known if not valid(name, text)] == []


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_is_no_format_is_surely_none(name: str) -> None:
    grammar = JSONSchema({"type": "string", "not": {"format": name}}).grammar()
    recogniser = Recogniser(grammar.rule)
    texts = (*VALID[name], *UNWRITTEN.get(name, []))
    assert [text for text in texts if recogniser.matches(grammar.start, json.dumps(text, ensure_ascii=False))] == []
    automaton, chance = Automaton(grammar), random.Random(name)
    others = [written(automaton, chance, chance.choice([1, 3, 8])) for _ in range(10)]
    assert [text for text in others if text is not None and valid(name, text)] == []
