"""Reads a text in Lark's grammar notation into statements: small trees, in which names are still names.

Statements end where a line that continues nothing ends; inside brackets, and before `|`, lines may break. What names
mean, and what terminals match, is for others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal as OneOf

from stemma.fsm.errors import GrammarError
from stemma.fsm.languages.ebnf import MAXIMUM_DEPTH, MAXIMUM_TEXT, Token, refuse_surrogates
from stemma.fsm.languages.lark.tree import (
    Aliased,
    Alternatives,
    Definition,
    Ignore,
    Import,
    Marker,
    Name,
    Pattern,
    Quoted,
    Row,
    Span,
    Statement,
    Times,
    Tree,
    Usage,
)

TOKENS = re.compile(
    r"""(?P<blank>[ \t\f\r]+|//[^\n]*|\#[^\n]*|\\[ ]*\r?\n)|(?P<line>\n)|(?P<directive>%[a-z]+)|(?P<range>\.\.)
    |(?P<name>_*[A-Za-z][A-Za-z0-9_]*)|(?P<text>"(?:[^"\\\n]|\\.)*"i?)
    |(?P<regex>/(?!/)(?:[^/\\]|\\.)+/[a-z]*)|(?P<special>!?<(?:\[[\d,-]+\]|[^<>\[\]\s][^<>\s]*)>)
    |(?P<number>[+-]?\d+)|(?P<arrow>->)|(?P<sign>[|()\[\]*+?!~:.,{}])""",
    re.VERBOSE | re.DOTALL,
)
ESCAPE = re.compile(r"\\(?:x(.{0,2})|u(.{0,4})|U(.{0,8})|(.?))", re.DOTALL)
NAMED = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", '"': '"'}
FLAGS = "imslux"


def statements(source: str) -> list[Statement]:
    """All that a grammar's text says, in order; a `GrammarError` with the line where it cannot be read."""
    return list(_Parser(source).statements())


class _Parser:
    """A recursive descent over one grammar."""

    def __init__(self, source: str) -> None:
        if len(source) > MAXIMUM_TEXT:
            raise GrammarError(f"the grammar is longer than {MAXIMUM_TEXT} characters", 1)
        refuse_surrogates(source)
        self.tokens = list(_tokens(source))
        self.at = 0
        self.depth = 0

    def statements(self) -> Iterator[Statement]:
        while self.at < len(self.tokens):
            token = self.next()
            if token.kind == "line":
                continue
            if token.kind == "directive":
                yield self.directive(token)
            else:
                self.at -= 1
                yield self.definition("new")
            if self.peek().kind != "line":
                raise self.unexpected(self.peek())

    def directive(self, token: Token) -> Statement:
        if token.text == "%ignore":
            return Ignore(self.alternatives(), token.line)
        if token.text == "%import":
            return self.imported(token.line)
        if token.text in ("%override", "%extend"):
            return self.definition("override" if token.text == "%override" else "extend")
        if token.text == "%declare":
            message = "%declare is not supported: such a terminal comes from a lexer's own code; define it as text"
            raise GrammarError(message, token.line)
        raise GrammarError(f"{token.text} is not known; there are %ignore, %import, %override and %extend", token.line)

    def definition(self, how: OneOf["new", "override", "extend"]) -> Definition:
        while self.take("?") or self.take("!"):
            pass  # what the tree would look like
        token = self.name("a rule's or a terminal's name")
        if token.text.startswith("__"):
            raise GrammarError(f"{token.text!r}: names that begin with two underscores are reserved", token.line)
        if token.text.isupper() and self.peek().text == "{":
            raise GrammarError("a terminal cannot be a template; make it a rule", token.line)
        parameters = tuple(self.parameters()) if self.take("{") else ()
        if self.take("."):
            self.number()  # a priority, which only chooses between trees
        if not self.take(":"):
            raise GrammarError(f"expected ':' after {token.text!r}", token.line)
        return Definition(token.text, parameters, self.alternatives(), token.line, how)

    def parameters(self) -> Iterator[str]:
        """Names up to the closing brace, each once."""
        seen: set[str] = set()
        while True:
            token = self.name("a parameter's name")
            if token.text in seen:
                raise GrammarError(f"the parameter {token.text!r} is there twice", token.line)
            seen.add(token.text)
            yield token.text
            if not self.take(","):
                break
        self.expect("}", token)

    def imported(self, line: int) -> Import:
        """`%import common.NAME`, `... -> ALIAS`, and `%import common (A, B)`."""
        if self.take("."):
            raise GrammarError("a grammar has no file to import from; write the definitions into it", line)
        path = [self.name("a library's name").text]
        while self.take("."):
            path.append(self.name("a name").text)
        if self.take("("):
            names = [self.name("a name").text]
            while self.take(","):
                names.append(self.name("a name").text)
            self.expect(")", self.peek())
            return Import(".".join(path), {name: name for name in names}, line)
        if len(path) < 2:
            raise GrammarError(f"nothing of {path[0]} is imported; write %import {path[0]}.NAME", line)
        alias = path[-1]
        if self.peek().kind == "arrow":
            self.at += 1
            alias = self.name("a name").text
        return Import(".".join(path[:-1]), {path[-1]: alias}, line)

    def alternatives(self) -> Tree:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise GrammarError(f"groups are nested deeper than {MAXIMUM_DEPTH}", self.peek().line)
        parts = [self.aliased()]
        while self.continued("|"):
            parts.append(self.aliased())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Alternatives(tuple(parts))

    def continued(self, sign: str) -> bool:
        """Takes a sign, on a further line too."""
        at = self.at
        while at < len(self.tokens) and self.tokens[at].kind == "line":
            at += 1
        if at < len(self.tokens) and self.tokens[at].kind == "sign" and self.tokens[at].text == sign:
            self.at = at + 1
            return True
        return False

    def aliased(self) -> Tree:
        row = self.row()
        token = self.peek()
        if token.kind != "arrow":
            return row
        self.at += 1
        self.name("an alias")
        return Aliased(row, token.line)

    def row(self) -> Tree:
        parts: list[Tree] = []
        while True:
            token = self.peek()
            if token.kind == "line" and self.depth > 1 and self.at < len(self.tokens):
                self.at += 1  # a group goes on over lines, but not past the end
            elif token.kind in ("line", "arrow") or (token.kind == "sign" and token.text in "|)]"):
                return parts[0] if len(parts) == 1 else Row(tuple(parts))
            else:
                parts.append(self.repeated(self.atom()))

    def repeated(self, part: Tree) -> Tree:
        token = self.peek()
        for sign, low, high in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self.take(sign):
                return Times(part, low, high)
        if not self.take("~"):
            return part
        least = most = self.number()
        if self.peek().kind == "range":
            self.at += 1
            most = self.number()
        if most < least or least < 0:
            raise GrammarError("the repeat's minimum is greater than its maximum, or below 0", token.line)
        return Times(part, least, most)

    def atom(self) -> Tree:
        token = self.peek()
        for opening, closing in (("(", ")"), ("[", "]")):
            if self.take(opening):
                inner = self.alternatives()
                if not self.continued(closing):
                    raise GrammarError(f"{opening!r} is not closed", token.line)
                return Times(inner, 0, 1) if opening == "[" else inner
        return self.value()

    def value(self) -> Tree:
        token = self.next()
        if token.kind == "name":
            if not self.take("{"):
                return Name(token.text, token.line)
            arguments = [self.value()]
            while self.take(","):
                arguments.append(self.value())
            self.expect("}", token)
            return Usage(token.text, tuple(arguments), token.line)
        if token.kind == "text":
            return self.quoted(token)
        if token.kind == "regex":
            return _regex(token)
        if token.kind == "special":
            following = self.peek()
            if token.text[0] == "!" and following.text not in ("*", "+"):
                raise GrammarError(f"{token.text} needs a * or +: how much text one token is, nobody knows", token.line)
            return Marker(token.text, token.line)
        raise self.unexpected(token)

    def quoted(self, token: Token) -> Tree:
        body = _text(token)
        if self.peek().kind != "range":
            return Quoted(body, "i" if token.text.endswith("i") else "", token.line)
        self.at += 1
        end = self.next()
        last = _text(end) if end.kind == "text" else ""
        if len(body) != 1 or len(last) != 1 or body > last:
            raise GrammarError("a range goes from one character to a later one", token.line)
        return Span(body, last, token.line)

    def number(self) -> int:
        token = self.next()
        if token.kind != "number":
            raise GrammarError(f"expected a number, not {token.text!r}", token.line)
        return int(token.text[:9])

    def name(self, what: str) -> Token:
        token = self.next()
        if token.kind != "name":
            raise GrammarError(f"expected {what}, not {token.text!r}", token.line)
        return token

    def expect(self, sign: str, opened: Token) -> None:
        if not self.take(sign):
            raise GrammarError(f"{sign!r} is missing", opened.line)

    def unexpected(self, token: Token) -> GrammarError:
        what = "the end of the line" if token.kind == "line" else repr(token.text)
        return GrammarError(f"unexpected {what}", token.line)

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def peek(self) -> Token:
        return self.tokens[min(self.at, len(self.tokens) - 1)]

    def take(self, sign: str) -> bool:
        found = self.peek().kind == "sign" and self.peek().text == sign
        self.at += found
        return found


def _tokens(source: str) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(source):
        match = TOKENS.match(source, at)
        if match is None:
            raise GrammarError(f"cannot read {source[at : at + 20]!r}", line)
        if match.lastgroup != "blank":
            yield Token(str(match.lastgroup), match[0], line)
        line += match[0].count("\n")
        at = match.end()
    yield Token("line", "\n", line)


def _regex(token: Token) -> Pattern:
    body, _, flags = token.text[1:].rpartition("/")
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown or "l" in flags:
        raise GrammarError(f"the flag {(unknown or 'l')[0]!r} is not supported; only i, m, s, u and x are", token.line)
    if "\n" in body and "x" not in flags:
        raise GrammarError("a regular expression goes over several lines only with the flag x", token.line)
    return Pattern(_evaluated(body, token.line), flags, token.line)


def _text(token: Token) -> str:
    return _evaluated(token.text.removesuffix("i")[1:-1], token.line).replace("\\\\", "\\")


def _evaluated(body: str, line: int) -> str:
    """`body` with the escapes that stand for a character; any other backslash stays, as in Lark."""

    def character(match: re.Match[str]) -> str:
        digits = next((group for group in match.groups()[:3] if group is not None), None)
        if digits is None:
            return NAMED.get(match[4], match[0])
        length = {"x": 2, "u": 4, "U": 8}[match[0][1]]
        if re.fullmatch(f"[0-9A-Fa-f]{{{length}}}", digits) is None:
            raise GrammarError(f"{match[0]} is not complete; it takes {length} hexadecimal digits", line)
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise GrammarError(f"{match[0]} is no character", line)
        return chr(code)

    return ESCAPE.sub(character, body)
