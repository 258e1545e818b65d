#!/usr/bin/env bash
# jsonschema-rs reads an escaped angle bracket in `pattern` as a word boundary, not as the character.
#
# Expected: JSON Schema asks for ECMA-262 patterns, where `\<` is refused (with the u flag) or stands for `<` itself
#           (without). So {"pattern": "\\<"} refuses the text "ab", which has no such character.
# Happens:  "ab" is valid: `\<` and `\>` match the empty text at the beginning and at the end of a word, as in Rust's
#           regex crate.
# Why it matters: an engine that enforces patterns by the letter of ECMA-262 and is checked against jsonschema-rs
#           disagrees with it on such patterns; a schema that escapes `<` for safety validates nearly everything.
# Versions: jsonschema-rs 0.61.0, Python 3.11. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "jsonschema-rs==0.61.0" 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import jsonschema_rs

found = {
    (pattern, text): jsonschema_rs.is_valid({"type": "string", "pattern": pattern}, text)
    for pattern in (r"\<", r"\>")
    for text in ("ab", "", "-")
}
for (pattern, text), valid in found.items():
    print(f"pattern {pattern}  text {text!r}: {'valid' if valid else 'not valid'}")
as_recorded = all(valid == (text == "ab") for (_, text), valid in found.items())
print("as recorded: word boundaries" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
