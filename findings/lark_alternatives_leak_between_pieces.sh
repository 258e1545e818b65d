#!/usr/bin/env bash
# In a Lark terminal, the alternatives of a regular expression swallow the string written after it.
#
# Expected: A: /a|b/ "c" is a sequence of two pieces: an a or a b, then a c. So it is the texts ac and bc.
# Happens:  the pieces are joined as text into the one expression a|bc: it is the texts a and bc.
# Why it matters: an engine that treats terminals as a tree of pieces, the way the notation suggests, generates ac, which
#           Lark's own parser refuses, and never generates a, which it accepts.
# Versions: lark 1.3.1, Python 3.11. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "lark==1.3.1" 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import lark

parser = lark.Lark('start: A\nA: /a|b/ "c"', parser="earley", lexer="dynamic_complete")


def accepts(text: str) -> bool:
    try:
        parser.parse(text)
    except lark.exceptions.LarkError:
        return False
    return True


found = {text: accepts(text) for text in ("a", "b", "ac", "bc")}
for text, accepted in found.items():
    print(f'/a|b/ "c"  text {text!r}: {"accepted" if accepted else "refused"}')
as_recorded = found == {"a": True, "b": False, "ac": False, "bc": True}
print("as recorded: a|bc" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
