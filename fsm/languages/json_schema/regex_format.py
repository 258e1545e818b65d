"""The format `regex`: texts that are regular expressions of ECMA-262 for sure, as a regular language.

Groups nest three deep, for no regular language counts parentheses, and look-around holds none; what depends on other
places of the expression (named groups, references to groups) is not written.
"""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase, digits

from stemma.fsm.languages.regex.regex import Regex
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import Characters, Node
from stemma.fsm.syntax.nodes import choice, concat, optional, repeat, text

DEEPEST = 3
CATEGORIES = "L[ultmo]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?"
_SYNTAX = characters.union((ord(c), ord(c)) for c in "^$\\.*+?()[]{}|")
_CLASS_SYNTAX = characters.union((ord(c), ord(c)) for c in "^[]\\-&~|")
_HEX = "[0-9A-Fa-f]"
# An escape that stands for characters; a surrogate is none.
_ESCAPE = (
    rf"[dDwWsSntrfv^$\\.*+?()\[\]{{}}|/-]|c[A-Za-z]|x{_HEX}{{2}}|[pP]\{{(?:{CATEGORIES})\}}"
    rf"|u(?:[0-9A-Ca-cEeFf]{_HEX}{{3}}|[Dd][0-7]{_HEX}{{2}})"
)


def pattern_texts() -> Node:
    quantifier = optional(concat((_counts(), optional(text("?")))))
    single = choice((
        Characters(characters.complement(characters.union((*_SYNTAX, (0x2028, 0x2029))))), text("."), _class(),
        concat((text("\\"), Regex(_ESCAPE).language())),
    ))  # fmt: skip
    assertion = choice((Characters(((36, 36), (94, 94))), Regex(r"\\[bB]").language()))
    flat = choice((concat((single, quantifier)), assertion, text("|")))
    around = concat((text("(?"), Regex("=|!|<=|<!").language(), repeat(flat, 0, None), text(")")))
    inner = repeat(choice((flat, around)), 0, None)
    for _ in range(DEEPEST):
        group = concat((text("("), optional(text("?:")), inner, text(")"), quantifier))
        inner = repeat(choice((flat, around, group)), 0, None)
    return inner


def _counts() -> Node:
    """`*`, `+`, `?`, and counts of which the second is not smaller: it has the first as its beginning, or follows 0."""
    above = choice(Regex(rf"{low},[{low}-9][0-9]{{0,2}}").language() for low in "123456789")
    return choice((Regex(r"[*+?]|\{(?:0|[1-9][0-9]{0,2})(?:,|)\}").language(),
                   concat((text("{"), choice((Regex("0,[0-9]{1,1}").language(), above)), text("}")))))  # fmt: skip


def _class() -> Node:
    """`[...]`, with ranges among letters of one case or digits."""
    ranges = choice(
        concat((text(f"{low}-"), Characters(((ord(low), ord(row[-1])),))))
        for row in (digits, ascii_lowercase, ascii_uppercase)
        for low in row
    )
    plain = Characters(characters.complement(characters.union((*_CLASS_SYNTAX, (0x2028, 0x2029)))))
    escaped = concat((text("\\"), choice((Regex(_ESCAPE).language(), text("b")))))
    return concat((text("["), optional(text("^")), repeat(choice((plain, ranges, escaped)), 0, None), text("]")))
