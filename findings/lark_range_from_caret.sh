#!/usr/bin/env bash
# Lark turns a range that begins with a caret into a negated class.
#
# Expected: in Lark's grammars "a".."z" is the characters from the first to the last, so "^".."z" is those from ^ (0x5E)
#           to z (0x7A): the letter a is one of them, the character ! is not.
# Happens:  the range is written into a regular expression as it is, [^-z], which reads: anything but - and z. So ! is
#           accepted and z is not.
# Why it matters: a grammar for constrained output that is checked with Lark lets through what it should not, and an
#           engine that reads the range as documented disagrees with Lark's own parser.
# Versions: lark 1.3.1, Python 3.11. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "lark==1.3.1" 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import lark

parser = lark.Lark('start: A\nA: "^".."z"', parser="earley", lexer="dynamic_complete")


def accepts(text: str) -> bool:
    try:
        parser.parse(text)
    except lark.exceptions.LarkError:
        return False
    return True


found = {text: accepts(text) for text in ("a", "!", "z", "^")}
for text, accepted in found.items():
    print(f'"^".."z"  text {text!r}: {"accepted" if accepted else "refused"}')
as_recorded = found["!"] and not found["z"]
print("as recorded: a negated class" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
