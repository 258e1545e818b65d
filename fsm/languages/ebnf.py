"""`EBNF(text)`: grammars in the notation of llama.cpp's GBNF and XGrammar: `root ::= "a" [0-9]+ (other | "x"){2,3}`.

Comments start with `#`. Special tokens are `<|name|>`, or `<[128]>` by id; `!<|name|>*` is text up to one. Left
recursion is rewritten; look-ahead is refused.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from stemma.fsm.errors import GrammarError
from stemma.fsm.languages.left_recursion import without_left_recursion
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import Characters, Grammar, Node, RuleRef, Special
from stemma.fsm.syntax.nodes import choice, concat, repeat, specials, text
from stemma.fsm.syntax.rule_facts import blamed, can_end, fulfilled, possible

TOKENS = re.compile(
    r"""(?P<blank>\s+|\#[^\n]*)|(?P<define>::=)|(?P<name>[A-Za-z0-9_-]+)|(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<class>\[(?:[^\]\\]|\\.)*\])|(?P<special>!?<\|?[^<>\n]+>)|(?P<bounds>\{\s*(?:\d+\s*(?:,\s*\d*\s*)?|,\s*\d+\s*)\})|(?P<sign>[|()*+?.])""",
    re.VERBOSE | re.DOTALL,
)
ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
NAMED_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "b": "\b", "a": "\a", "0": "\0"}
DIGITS = {"x": 2, "u": 4, "U": 8}
MAXIMUM_DEPTH = 200
MAXIMUM_TEXT = 4_000_000


@dataclass(frozen=True, slots=True)
class EBNF:
    """Texts of the rule `root` (or another one)."""

    text: str
    root: str = "root"

    def grammar(self) -> Grammar:
        return rules_grammar(*_Parser(self.text).rules(), self.root)


def rules_grammar(rules: Mapping[Hashable, Node], lines: Mapping[Hashable, int], root: str) -> Grammar:
    """A grammar of named rules, whose names are known to be defined; `lines` are of those that users named."""
    if root not in rules:
        raise GrammarError(f"there is no rule {root!r} to start from", 1)
    ends = fulfilled(rules, can_end)
    if root not in ends:
        name = blamed(root, rules, ends, lines)
        raise GrammarError(f"no text fulfils the rule {name!r}: it never ends, or asks for what is empty", lines[name])
    readable = without_left_recursion({name: possible(rules[name], ends) for name in rules if name in ends})
    texts = dict.fromkeys(special for node in rules.values() for special in specials(node))
    return Grammar(RuleRef(root), readable.__getitem__, tuple(texts))


def refuse_surrogates(source: str) -> None:
    """A lone surrogate in a grammar's text can never be written."""
    found = re.search("[\ud800-\udfff]", source)
    if found is not None:
        line = source.count("\n", 0, found.start()) + 1
        raise GrammarError("a lone surrogate is no character; write the whole one", line)


def unescaped(body: str, line: int) -> str:
    """The characters that a quoted text stands for."""

    def character(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        if digits is None:
            if match[4] in DIGITS:
                raise GrammarError(f"\\{match[4]} takes {DIGITS[match[4]]} hexadecimal digits", line)
            return NAMED_ESCAPES.get(match[4], match[4])
        code = int(digits, 16)
        if code > characters.LAST or 0xD800 <= code <= 0xDFFF:
            raise GrammarError(f"{match[0]} is no character", line)
        return chr(code)

    return ESCAPE.sub(character, body)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    line: int


class _Parser:
    """A recursive descent over the tokens of one grammar."""

    def __init__(self, source: str) -> None:
        if len(source) > MAXIMUM_TEXT:
            raise GrammarError(f"the grammar is longer than {MAXIMUM_TEXT} characters", 1)
        refuse_surrogates(source)
        self.tokens = list(_tokens(source))
        self.at = 0
        self.depth = 0
        self.called: dict[str, int] = {}

    def rules(self) -> tuple[dict[Hashable, Node], dict[Hashable, int]]:
        """Every rule, and the line that it is defined on."""
        rules: dict[Hashable, Node] = {}
        lines: dict[Hashable, int] = {}
        while self.at < len(self.tokens):
            name = self.expect("name", "a rule's name")
            self.expect("define", "'::='")
            if name.text in rules:
                raise GrammarError(f"the rule {name.text!r} is defined twice", name.line)
            lines[name.text] = name.line
            rules[name.text] = self.alternatives()
        for called, line in self.called.items():
            if called not in rules:
                raise GrammarError(f"the rule {called!r} is not defined", line)
        return rules, lines

    def alternatives(self) -> Node:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise GrammarError(f"groups are nested deeper than {MAXIMUM_DEPTH}", self.line())
        parts = [self.concat()]
        while self.take("|"):
            parts.append(self.concat())
        self.depth -= 1
        return choice(parts)

    def concat(self) -> Node:
        parts: list[Node] = []
        while (token := self.peek()) is not None and token.text not in ("|", ")") and not self.starts_rule():
            parts.append(self.quantified(self.atom()))
        return concat(parts)

    def starts_rule(self) -> bool:
        following = self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else None
        return self.tokens[self.at].kind == "name" and following is not None and following.kind == "define"

    def atom(self) -> Node:
        token = self.tokens[self.at]
        self.at += 1
        if token.kind == "name":
            self.called.setdefault(token.text, token.line)
            return RuleRef(token.text)
        if token.kind == "text":
            return text(unescaped(token.text[1:-1], token.line))
        if token.kind == "class":
            return Characters(_class(token))
        if token.kind == "special":
            return self.special(token)
        if token.text == ".":
            return Characters(characters.SCALARS)
        if token.text == "(":
            inner = self.alternatives()
            if not self.take(")"):
                raise GrammarError("missing ')'", token.line)
            return inner
        raise GrammarError(f"unexpected {token.text!r}", token.line)

    def special(self, token: Token) -> Node:
        following = self.peek()
        if token.text[0] == "!" and (following is None or following.text not in ("*", "+")):
            raise GrammarError(f"{token.text} needs a * or +: how much text one token is, nobody knows", token.line)
        return Special(token.text)

    def quantified(self, node: Node) -> Node:
        while (token := self.peek()) is not None:
            if token.kind == "bounds":
                low, comma, high = "".join(token.text[1:-1].split()).partition(",")
                least = int(low[:9] or 0)
                bounds = (least, int(high[:9]) if high else (None if comma else least))
            elif token.text in ("*", "+", "?"):
                bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}[token.text]
            else:
                break
            if bounds[1] is not None and bounds[1] < bounds[0]:
                raise GrammarError("the repeat's minimum is greater than its maximum", token.line)
            self.at += 1
            node = repeat(node, *bounds)
        return node

    def expect(self, kind: str, what: str) -> Token:
        token = self.peek()
        if token is None or token.kind != kind:
            raise GrammarError(f"expected {what}" + (f", not {token.text!r}" if token else ""), self.line())
        self.at += 1
        return token

    def line(self) -> int:
        return self.tokens[min(self.at, len(self.tokens) - 1)].line if self.tokens else 1

    def peek(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, sign: str) -> bool:
        token = self.peek()
        found = token is not None and token.kind == "sign" and token.text == sign
        self.at += found
        return found


def _tokens(source: str) -> list[Token]:
    found: list[Token] = []
    at, line = 0, 1
    while at < len(source):
        match = TOKENS.match(source, at)
        if match is None:
            raise GrammarError(f"cannot read {source[at : at + 20]!r}", line)
        if source.startswith(("(?=", "(?!"), at):
            raise GrammarError("look-ahead is not supported; write the alternatives out", line)
        if match.lastgroup != "blank":
            found.append(Token(str(match.lastgroup), match[0], line))
        line += match[0].count("\n")
        at = match.end()
    return found


def _class(token: Token) -> characters.Ranges:
    """`[a-z_]` or `[^"\\]`."""
    body = token.text[1:-1]
    negative = body.startswith("^")
    pieces = re.findall(r"\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\.|.", body[negative:], re.DOTALL)
    codes = [ord(unescaped(piece, token.line)) for piece in pieces]
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < len(codes):
        if at + 2 < len(codes) and pieces[at + 1] == "-":
            if codes[at] > codes[at + 2]:
                raise GrammarError("a range of characters that runs backwards", token.line)
            ranges.append((codes[at], codes[at + 2]))
            at += 3
        else:
            ranges.append((codes[at], codes[at]))
            at += 1
    whole = characters.intersection(characters.union(ranges), characters.SCALARS)
    return characters.complement(whole) if negative else whole
