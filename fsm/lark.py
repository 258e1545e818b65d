"""`Lark(text)`: a subset of Lark's grammar notation, read as a context-free grammar over characters.

Rules, terminals, strings and regexes with flags, `|`, `()`, `[]`, `?`, `*`, `+`, `~n..m`, `"a".."z"`, aliases,
priorities, `%ignore`, `%import common.NAME`, and special tokens as `<|name|>`. There is no lexer: where Lark prefers
the longest terminal, every reading is accepted. Templates, `%declare` and `%override` are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stemma.fsm import characters
from stemma.fsm.ast import Call, Characters, Grammar, Node, Special
from stemma.fsm.ebnf import MAXIMUM_DEPTH, MAXIMUM_TEXT, Token, refuse_surrogates, rules_grammar, unescaped
from stemma.fsm.errors import GrammarError, RegexError
from stemma.fsm.nodes import EMPTY, choice, optional, repeat, sequence, text
from stemma.fsm.regex import Regex

TOKENS = re.compile(
    r"""(?P<blank>[ \t\f\r]+|//[^\n]*|\#[^\n]*|\\\r?\n)|(?P<line>\n)|(?P<directive>%[a-z]+)|(?P<range>\.\.)
    |(?P<name>[!?]?_?[A-Za-z][A-Za-z0-9_]*|_)|(?P<text>"(?:[^"\\\n]|\\.)*"i?)|(?P<regex>/(?!/)(?:[^/\\\n]|\\.)+/[imslux]*)
    |(?P<special><\|?[^<>\s]+>)|(?P<number>\d+)|(?P<arrow>->)|(?P<sign>[|()\[\]*+?~:.,={}])""",
    re.VERBOSE,
)
COMMON = {
    "DIGIT": "[0-9]", "HEXDIGIT": "[a-fA-F0-9]", "INT": "[0-9]+", "SIGNED_INT": "[+-]?[0-9]+",
    "DECIMAL": r"[0-9]+\.[0-9]*|\.[0-9]+",
    "FLOAT": r"[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?",
    "NUMBER": r"(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?",
    "SIGNED_NUMBER": r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?",
    "ESCAPED_STRING": r'"(?:[^"\\\n]|\\.)*"', "LCASE_LETTER": "[a-z]", "UCASE_LETTER": "[A-Z]", "LETTER": "[A-Za-z]",
    "WORD": "[A-Za-z]+", "CNAME": "[A-Za-z_][A-Za-z0-9_]*", "WS_INLINE": "[ \t]+", "WS": r"[ \t\f\r\n]+",
    "CR": r"\r", "LF": r"\n", "NEWLINE": r"(?:\r?\n)+", "SH_COMMENT": r"#[^\n]*", "CPP_COMMENT": r"//[^\n]*",
}  # fmt: skip
IGNORED = "%ignored"


@dataclass(frozen=True, slots=True)
class Lark:
    """Texts of the rule `start` (or another one)."""

    text: str
    start: str = "start"

    def grammar(self) -> Grammar:
        parser = _Parser(self.text)
        parser.statements()
        if self.start not in parser.rules:
            raise GrammarError(f"there is no rule {self.start!r} to start from", 1)
        rules = {**parser.rules, IGNORED: repeat(choice(parser.ignored), 0, None) if parser.ignored else EMPTY}
        rules["%start"] = sequence((Call(IGNORED), Call(self.start)))
        lines = {name: parser.lines.get(name, 1) for name in rules}
        return rules_grammar(rules, lines, "%start")


@dataclass
class _Parser:
    """A recursive descent over one grammar; statements end where a line that continues nothing ends."""

    source: str
    tokens: list[Token] = field(default_factory=list)
    rules: dict[str, Node] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    called: dict[str, int] = field(default_factory=dict)
    ignored: list[Node] = field(default_factory=list)
    at: int = 0
    depth: int = 0
    in_terminal: bool = False

    def __post_init__(self) -> None:
        if len(self.source) > MAXIMUM_TEXT:
            raise GrammarError(f"the grammar is longer than {MAXIMUM_TEXT} characters", 1)
        refuse_surrogates(self.source)
        at, line = 0, 1
        while at < len(self.source):
            match = TOKENS.match(self.source, at)
            if match is None:
                raise GrammarError(f"cannot read {self.source[at : at + 20]!r}", line)
            if match.lastgroup != "blank":
                self.tokens.append(Token(str(match.lastgroup), match[0], line))
            line += match[0].count("\n")
            at = match.end()
        self.tokens.append(Token("line", "\n", line))

    def statements(self) -> None:
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            self.at += 1
            if token.kind == "line":
                continue
            if token.kind == "directive":
                self.directive(token)
            elif token.kind == "name":
                self.definition(token)
            else:
                raise GrammarError(f"unexpected {token.text!r}", token.line)
        for called, line in self.called.items():
            if called not in self.rules:
                raise GrammarError(f"{called!r} is not defined; %import it or write it", line)

    def definition(self, token: Token) -> None:
        name = token.text.lstrip("!?")
        if self.take("."):
            self.at += 1  # a priority, which only a lexer would heed
        if self.peek().text == "{":
            raise GrammarError("templates are not supported; write the rule out", token.line)
        if not self.take(":"):
            raise GrammarError(f"expected ':' after {name!r}", token.line)
        if name in self.rules:
            raise GrammarError(f"{name!r} is defined twice", token.line)
        self.lines[name] = token.line
        self.in_terminal = name.lstrip("_").isupper()
        self.rules[name] = self.alternatives()
        if self.peek().kind != "line":
            raise GrammarError(f"unexpected {self.peek().text!r}", self.peek().line)

    def directive(self, token: Token) -> None:
        if token.text == "%ignore":
            self.in_terminal = True
            self.ignored.append(self.alternatives())
        elif token.text == "%import":
            self.imported(token)
        else:
            raise GrammarError(f"{token.text} is not supported", token.line)

    def imported(self, token: Token) -> None:
        """`%import common.NAME [-> ALIAS]` and `%import common (A, B)`."""
        words: list[str] = []
        while self.peek().kind != "line":
            words.append(self.peek().text)
            self.at += 1
        if words[:1] != ["common"]:
            raise GrammarError("only %import common is supported; write other terminals out", token.line)
        alias = words[words.index("->") + 1] if "->" in words else None
        for name in [word for word in words[1:] if word.isidentifier() and word != alias]:
            if name not in COMMON:
                raise GrammarError(f"common.{name} is not known; write it out", token.line)
            self.rules[alias or name] = Regex(COMMON[name]).language()
            self.lines[alias or name] = token.line

    def alternatives(self) -> Node:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise GrammarError(f"groups are nested deeper than {MAXIMUM_DEPTH}", self.peek().line)
        parts = [self.sequence()]
        while self.continued("|"):
            parts.append(self.sequence())
        self.depth -= 1
        return choice(parts)

    def continued(self, sign: str) -> bool:
        """Takes a sign, on a further line too."""
        at = self.at
        while at < len(self.tokens) and self.tokens[at].kind == "line":
            at += 1
        if at < len(self.tokens) and self.tokens[at].kind == "sign" and self.tokens[at].text == sign:
            self.at = at + 1
            return True
        return False

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.peek().text not in ("|", ")", "]"):
            if self.peek().kind == "arrow":
                self.at += 2
            elif self.peek().kind == "line":
                if self.depth == 1 or self.at >= len(self.tokens):
                    break  # a group goes on over lines, but not past the end
                self.at += 1
            else:
                parts.append(self.quantified(self.atom()))
        return sequence(parts)

    def atom(self) -> Node:
        token = self.peek()
        self.at += 1
        if token.text in ("(", "["):
            inner = self.alternatives()
            if not self.continued(")" if token.text == "(" else "]"):
                raise GrammarError(f"{token.text!r} is not closed", token.line)
            return optional(inner) if token.text == "[" else inner
        if token.kind == "name":
            name = token.text.lstrip("!?")
            self.called.setdefault(name, token.line)
            return self.spaced(Call(name)) if name.lstrip("_").isupper() else Call(name)
        if token.kind == "text":
            return self.spaced(self.quoted(token))
        if token.kind == "regex":
            return self.spaced(self.regex(token))
        if token.kind == "special":
            return self.spaced(Special(token.text))
        raise GrammarError(f"unexpected {token.text!r}", token.line)

    def spaced(self, node: Node) -> Node:
        """A terminal in a rule, and what may be ignored after it."""
        return node if self.in_terminal else sequence((node, Call(IGNORED)))

    def quoted(self, token: Token) -> Node:
        body = unescaped(token.text.rstrip("i")[1:-1], token.line)
        if self.peek().kind == "range":
            self.at += 2
            last = unescaped(self.tokens[self.at - 1].text[1:-1], token.line)
            if len(body) != 1 or len(last) != 1 or body > last:
                raise GrammarError("a range goes from one character to a later one", token.line)
            return Characters(((ord(body), ord(last)),))
        if not token.text.endswith("i"):
            return text(body)
        return sequence(Characters(characters.ignoring_case(((ord(letter), ord(letter)),))) for letter in body)

    def regex(self, token: Token) -> Node:
        body, _, flags = token.text[1:].rpartition("/")
        used = "".join(flag for flag in "isx" if flag in flags)
        try:
            pattern = body.replace(r"\/", "/")
            return Regex(f"(?{used}:{pattern})" if used else pattern).language()
        except RegexError as error:
            raise GrammarError(str(error), token.line) from error

    def quantified(self, node: Node) -> Node:
        token = self.peek()
        if token.kind == "sign" and token.text in ("*", "+", "?"):
            self.at += 1
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[token.text]
            return repeat(node, low, high)
        if not self.take("~"):
            return node
        low = self.number()
        if self.peek().kind != "range":
            return repeat(node, low, low)
        self.at += 1
        high = self.number()
        if high < low:
            raise GrammarError("the repeat's minimum is greater than its maximum", token.line)
        return repeat(node, low, high)

    def number(self) -> int:
        token = self.peek()
        if token.kind != "number":
            raise GrammarError(f"expected a number, not {token.text!r}", token.line)
        self.at += 1
        return int(token.text[:9])

    def peek(self) -> Token:
        return self.tokens[min(self.at, len(self.tokens) - 1)]

    def take(self, sign: str) -> bool:
        found = self.peek().kind == "sign" and self.peek().text == sign
        self.at += found
        return found
