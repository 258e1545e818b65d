"""Ambiguous grammars that the tests share, by name: each reads some text in very many ways."""

from __future__ import annotations

OPERATORS = r"""
root ::= (statement end?)*
statement ::= expression | "if " expression statement ("else " statement)?
end ::= ";" | "\n"
expression ::= expression operator expression | expression "(" expression ")" | expression " " expression
    | "(" expression ")" | "-" expression | [a-z0-9]
operator ::= [-+*/<=>]
"""

AMBIGUOUS = {
    "operators": OPERATORS,
    "three at once": 'root ::= root root root | root root | "a" | ""',
    "not at an end": 'root ::= "a" root root | "b" root | ""',
    "dangling": 'root ::= "i" root ("e" root)? | "x"',
    "palindromes": 'root ::= "a" root "a" | "b" root "b" | "a" | "b" | ""',
    "lists": 'root ::= list list? list?\nlist ::= item* ","? item*\nitem ::= "a" item? | "ab" item*',
    "loops": 'root ::= x*\nx ::= y* | ("a"* "b"?)*\ny ::= "a"* | "a" y | "aa"',
    "counted": 'root ::= (x{0,9} y?)*\nx ::= "a"{1,4} | y\ny ::= "a"{2,3} | "b"',
    "turns": 'root ::= ("[" part "]"){2,14}\npart ::= "a" part part | "b" | ""',
    "through many": """
root ::= root{2} x? root{2} | z x? | ""
x ::= "a" z? root? | y
y ::= x{2} "b" | root
z ::= "b"? x
""",
}
