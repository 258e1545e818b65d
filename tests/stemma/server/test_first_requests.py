"""First requests that come at once: msgspec learns types before any thread reads by them, or the process dies."""

from __future__ import annotations

import subprocess
import sys

READ = """
import sys, threading
import msgspec
from stemma.server.http.decoding import learn_types
from stemma.server.wire.fields import Wire

sys.setswitchinterval(1e-6)
names = [f"a{number}" for number in range(40)]
inner = [msgspec.defstruct("Inner", [(name, int | None, None) for name in names], bases=(Wire,)) for _ in range(60)]
kinds = [
    msgspec.defstruct("Outer", [(name, kind | None, None) for name in names], bases=(Wire,))
    for kind in inner
]
learn_types()
for kind in kinds:
    start = threading.Barrier(4)
    read = lambda: (start.wait(), msgspec.convert({"a1": {"a39": 1}}, kind))
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("read")
"""


def test_types_that_were_learnt_are_read_by_many_threads() -> None:
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr
