"""What the stages of first_hour.py share: lines of JSON as soon as they are known, and the time that is left."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BROKEN = 3
"""The exit status of a stage whose device no longer answers: it goes on in a new process."""

UNFINISHED = 4
"""Of one that left out cases for want of time."""


UNDER_WAY = "under_way"
"""A file beside the lines, with the name of the case that is attempted: whoever waits for the stage sees there which
one hangs, and which one a process died of."""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A line that was cut off, because its process was ended while it wrote, is none."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def add_line(path: Path, line: dict[str, Any]) -> None:
    """On a line of its own, even behind one that was cut off."""
    with path.open("a+b") as file:
        whole = file.tell() == 0
        if not whole:
            file.seek(-1, 2)
            whole = file.read(1) == b"\n"
        file.write((b"" if whole else b"\n") + json.dumps(line).encode() + b"\n")


class Lines:
    """The lines of one stage in a file that they share. Whoever asks `todo` first leaves out what is there already.

    seconds: that the stage has from now on. is_timed: whether a time means something.
    """

    def __init__(self, stage: str, path: Path, seconds: float = 3600.0, is_timed: bool = False) -> None:
        self._stage, self._path, self._is_timed = stage, path, is_timed
        self._known = {line["case"] for line in read_lines(path) if line["stage"] == stage and "case" in line}
        self._ends = time.monotonic() + seconds

    def todo(self, case: str) -> bool:
        return case not in self._known

    def left(self) -> float:
        """Seconds."""
        return self._ends - time.monotonic()

    def _add(self, **line: Any) -> None:
        add_line(self._path, {"stage": self._stage, **line})

    def fact(
        self, case: str, metric: str, ours: float, peer: float | None = None, peer_name: str = "", **more: Any
    ) -> None:
        """metric: us, GB/s, TFLOP/s, MB, tokens/s or a count."""
        beside = {"peer": peer, "peer_name": peer_name, "ratio": ours / peer if peer else None}
        self._add(case=case, metric=metric, ours=ours, **beside, timed=self._is_timed, **more)

    def judge(self, case: str, passed: bool, note: str = "") -> None:
        self._add(case=case, passed=bool(passed), note=note)

    def skip(self, case: str, why: str) -> None:
        self._add(case=case, skipped=why)

    def attempt(self, case: str, function: Callable[[], None]) -> None:
        """A case that writes its own lines; an error is one, and the next case comes: in a new process, where it is one
        of CUDA, after which a process has no use of the device any more."""
        if not self.todo(case):
            return
        under_way = self._path.with_name(UNDER_WAY)
        outer = under_way.read_text() if under_way.exists() else None  # a case may be a part of another one
        under_way.write_text(case)
        try:
            function()
        except Exception as error:
            self.judge(case, False, f"{type(error).__name__}: {str(error)[:500]}")
            if "CUDA error" in str(error) or "HIP error" in str(error):
                under_way.unlink()
                sys.exit(BROKEN)
        if outer is None:
            under_way.unlink()
        else:
            under_way.write_text(outer)
