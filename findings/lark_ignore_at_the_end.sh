#!/usr/bin/env bash
# Lark's Earley parser fails inside when %ignore reads what the grammar may also end with.
#
# Expected: a text that the grammar reads is parsed, whether its last character is taken as part of it or ignored; with
#           ambiguity="resolve", Lark picks one of both. At worst, an exception of Lark's own kind says what is wrong.
# Happens:  a RuntimeError about several start symbol items, with the wish that it be reported as a bug. It is no
#           LarkError, so code that takes LarkError for "not of this grammar" stops. Without the overlap, or with the
#           last piece demanded, the same text is parsed.
# Why it matters: whoever checks constrained output with Lark, or uses it as an oracle, must take this for neither
#           verdict: the text is of the grammar.
# Versions: lark 1.3.1, Python 3.11. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "lark==1.3.1" 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import lark


def outcome(grammar: str) -> str:
    try:
        lark.Lark(grammar, parser="earley", lexer="dynamic_complete").parse("ab")
    except Exception as error:
        return f"{type(error).__name__}, {'a' if isinstance(error, lark.exceptions.LarkError) else 'no'} LarkError"
    return "parsed"


found = {
    'optional "b", ignored "b"': outcome('start: "a" "b"?\n%ignore "b"'),
    'optional "b", ignored "c"': outcome('start: "a" "b"?\n%ignore "c"'),
    'demanded "b", ignored "b"': outcome('start: "a" "b"\n%ignore "b"'),
}
for name, became in found.items():
    print(f"{name}: {became}")
as_recorded = list(found.values()) == ["RuntimeError, no LarkError", "parsed", "parsed"]
print("as recorded: fails inside" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
