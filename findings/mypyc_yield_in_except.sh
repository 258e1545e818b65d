#!/usr/bin/env bash
# A generator that mypyc compiled and that yields in an `except` clause leaves the error to its caller for ever.
#
# Expected: while a generator is suspended, its caller handles nothing: `sys.exc_info()` is empty, as it is interpreted.
# Happens:  the caller goes on as if it handled the generator's error, also when the generator is given up.
# Why it matters: the error and all that its traceback holds stay alive, and it becomes the `__context__` of every later
#           error of the thread, which sends whoever reads a log to the wrong place. Compile no generator that yields there.
# Versions: mypy 2.4.1, CPython 3.11. Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet "mypy==2.4.1" setuptools 2>/dev/null
cat >told.py <<'PYTHON'
from collections.abc import Iterator


def problems() -> Iterator[str]:
    try:
        raise ValueError("a problem")
    except ValueError as error:
        yield str(error)
PYTHON
cat >look.py <<'PYTHON'
import sys

from told import problems

for problem in problems():
    break
handled = sys.exc_info()[0]
print(sys.modules["told"].__file__.rsplit(".", 1)[1], "the caller handles:", handled and handled.__name__)
sys.exit(3 if handled else 0)
PYTHON
venv/bin/python look.py
PATH="$folder/venv/bin:$PATH" venv/bin/mypyc told.py >build.log 2>&1
status=0
venv/bin/python look.py || status=$?
if [ "$status" = 3 ]; then echo "as recorded: compiled, the error stays"; else echo "changed"; exit 1; fi
