#!/usr/bin/env bash
# llguidance's converter from GBNF writes an escape of four digits with two, which its own regex parser refuses.
#
# Expected: in llama.cpp's GBNF \u0063 is the letter c, in a class as anywhere; the converter that llguidance ships
#           (gbnf_to_lark) makes a grammar of the same language that llguidance then compiles.
# Happens:  [\x62-\u0063] becomes a regular expression with \u63 in it, and llguidance says that the escape is not
#           complete.
# Why it matters: GBNF grammars that are written with escapes, as generators of them do for anything beyond ASCII, do not
#           survive the change of engine.
# Versions: llguidance 1.9.1, Python 3.11. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "llguidance==1.9.1" 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import llguidance
from llguidance.gbnf_to_lark import gbnf_to_lark

lark = gbnf_to_lark(r"root ::= [\x62-\u0063]")
print("converted:", lark.strip().splitlines()[-1])
grammar = llguidance.LLMatcher.grammar_from_lark(lark)
told = llguidance.LLMatcher.validate_grammar(grammar)
print("llguidance says:", told.strip().splitlines()[0] if told else "nothing")
as_recorded = r"\u63" in lark and bool(told)
print("as recorded: the escape has lost its zeros" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
