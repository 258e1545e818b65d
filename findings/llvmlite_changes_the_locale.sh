#!/usr/bin/env bash
# llvmlite changes the locale of the whole process while it prints a module, which other threads notice.
#
# Expected: a thread that compiles changes nothing for the others: a text file that another thread opens meanwhile is
#           read as UTF-8, as the environment says.
# Happens:  while str(module) runs, setlocale(LC_ALL, "C") holds for the process. A file that is opened in another thread
#           without an encoding is read as ASCII then, and fails at the first character beyond it.
# Why it matters: numba prints every module that it compiles. A program that compiles in a thread beside its work, or a
#           server that does, fails now and then where it opens files, and never when it is looked at.
# Versions: llvmlite 0.50.0, Python 3.11. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "llvmlite==0.50.0" 2>/dev/null
LC_ALL=C.UTF-8 "$folder/venv/bin/python" - "$folder/text" <<'PYTHON'
import locale
import sys
import threading
from pathlib import Path

import llvmlite.binding as llvm

path = Path(sys.argv[1])
path.write_text("é", encoding="utf-8")
before = locale.getencoding()
module = llvm.parse_assembly("\n".join(f"define i32 @f{i}() {{ ret i32 {i} }}" for i in range(20_000)))
done, failures = threading.Event(), []


def read() -> None:
    while not done.is_set():
        try:
            path.read_text()
        except UnicodeDecodeError as error:
            failures.append(error)


reader = threading.Thread(target=read)
reader.start()
for _ in range(5):
    str(module)
done.set()
reader.join()
print(f"encoding before and after: {before}, {locale.getencoding()}")
print(f"a thread that reads a file meanwhile failed {len(failures)} times: {failures[0] if failures else '-'}")
as_recorded = before == "UTF-8" and bool(failures)
print("as recorded: other threads see the C locale" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON
