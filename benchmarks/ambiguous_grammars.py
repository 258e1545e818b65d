"""What a token costs at token 1,000 of an ambiguous or left-recursive grammar, over an unambiguous one for its text.

    python benchmarks/ambiguous_grammars.py --gguf MODEL.gguf [--tokens N] [--runs N] [--json FILE]

The cost is that of the mask and of the step together, in CPU time of the measuring thread, averaged over the 50 tokens
before the last; each run has fresh grammars (nothing is remembered but what the walk itself has met), and the median of
the runs counts. The peer is our own engine with the unambiguous grammar.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fsm_vocabularies import vocabulary_49k

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.ebnf import EBNF

MEASURED = 50  # tokens


class Case(NamedTuple):
    """Two grammars that read the same text."""

    ambiguous: str
    plain: str
    text: str  # said again and again


NUMBER = "[0-9]+"
CASES = {
    "(stmt eos?)*": Case(
        f'root ::= (stmt eos?)*\nstmt ::= expr eos? | name "=" expr\neos ::= ";" | "\\n"\n'
        f'expr ::= expr op expr | expr "(" expr ")" | "-" expr | "(" expr ")" | name | {NUMBER}\n'
        f'name ::= [a-z]+\nop ::= [-+*/]',
        f'root ::= (stmt [;\\n])*\nstmt ::= name "=" expr | expr\nexpr ::= unit (op unit)*\n'
        f'unit ::= "-"* (name ("(" expr ")")* | {NUMBER} | "(" expr ")")\nname ::= [a-z]+\nop ::= [-+*/]',
        "total=price*(amount-12)+f(x);\nresult=total-1;\n".replace(";\n", ";"),
    ),
    "S ::= S S | a | empty": Case('root ::= root root | "ab" | ""', 'root ::= "ab"*', "ab"),
    "operators, left-recursive": Case(
        f"root ::= root [-+*/] root | {NUMBER}", f"root ::= {NUMBER} ([-+*/] {NUMBER})*", "12+345*7-"
    ),
    "calls, indirectly left-recursive": Case(
        'root ::= value\nvalue ::= call | member | [a-z]+\ncall ::= value "(" value? ")"\nmember ::= value "." value',
        'root ::= name ("." name)*\nname ::= [a-z]+ ("(" root? ")")*',
        "point.move(other).",
    ),
    "nested optional lists": Case(
        'root ::= lists?\nlists ::= list (","? list?)*\nlist ::= item+ (","? item*)?\nitem ::= [a-z] | item item',
        'root ::= [a-z]+ ("," [a-z]+)*',
        "abc,de,",
    ),
    "(a*)*": Case('root ::= (x*)*\nx ::= (y* "-"?)*\ny ::= [a-z]* | "-"', "root ::= [-a-z]*", "some-words-"),
    "words in words": Case(
        'root ::= (phrase " "?)*\nphrase ::= word | phrase " " phrase\nword ::= [a-z]+ | word word',
        'root ::= [a-z]+ (" " [a-z]+)*',
        "the quick brown fox ",
    ),
    "dangling else, in a block": Case(
        'root ::= stmt*\nstmt ::= "if " [a-z] " " stmt ("else " stmt)? | [a-z] "; "',
        'root ::= ("if " [a-z] " " | "else " | [a-z] "; ")*',
        "if a b; else if c d; e; ",
    ),
    "dangling else, ever deeper": Case(
        'root ::= "if " [a-z] " " root ("else " root)? | [a-z] "; "',
        'root ::= "if " [a-z] " " root "fi "? | [a-z] "; "',
        "if a ",
    ),
}  # fmt: skip


def cost(grammar: str, text: str, vocabulary: Vocabulary, num_tokens: int) -> float:
    """Microseconds of a mask and a step, about the last of `num_tokens` tokens of `text`."""
    assert vocabulary.tokenize is not None
    repeated = (text * (num_tokens * 8 // len(text) + 1)).encode()
    tokens = vocabulary.tokenize(repeated)[:num_tokens]
    matcher = Matcher(compile(EBNF(grammar), vocabulary))
    row = np.zeros(vocabulary.num_words, np.uint32)
    spent = 0.0
    for position, token in enumerate(tokens):
        before = time.thread_time()
        matcher.mask_into(row)
        allowed = matcher.advance(token)
        if position >= num_tokens - MEASURED:
            spent += time.thread_time() - before
        assert allowed, (grammar, position, vocabulary.token_bytes[token])
    assert len(tokens) == num_tokens
    return spent / MEASURED * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    vocabulary = vocabulary_49k(options.gguf).vocabulary()
    rows = []
    print(f"{'case':36}{'ours us':>10}{'plain us':>10}{'ratio':>8}")
    for name, case in CASES.items():
        pairs = [
            [cost(grammar, case.text, vocabulary, options.tokens) for grammar in (case.ambiguous, case.plain)]
            for _ in range(options.runs)
        ]
        ours, peer = (statistics.median(each) for each in zip(*pairs, strict=True))
        rows.append(
            {"case": name, "metric": f"us a token at token {options.tokens}", "ours": ours, "peer": peer,
             "peer_name": "an unambiguous grammar", "ratio": ours / peer}
        )  # fmt: skip
        print(f"{name:36}{ours:10.1f}{peer:10.1f}{ours / peer:8.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
