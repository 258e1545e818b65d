"""The terminal in the README, docs/pictures/terminal.svg: `python docs/draw_cast.py`.

Runs the commands and writes down what they say, and when; waiting is cut short. Everything is drawn once, and a line of
CSS says when it is seen: no script, and who prefers no motion sees the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from html import escape
from pathlib import Path
from typing import IO, NamedTuple

PICTURE = Path(__file__).parent / "pictures/terminal.svg"
SECONDS, ROWS, COLUMNS = 20.0, 21, 92
LINE, LETTER, LEFT, TOP = 19, 8.0, 18, 52
CHAT = ["What is the capital of Italy?", "And of France?", "And of Spain?", "/tree", ""]
STEPS = [
    (["generate", "Ada Lovelace wrote the first", "--max-tokens", "12"], []),
    (["chat", "--system", "You answer in a few words.", "--max-tokens", "24"], CHAT),
]


class Piece(NamedTuple):
    """A text that appears at a time. kind: its colour."""

    at: float
    text: str
    kind: str


def record() -> list[Piece]:
    """What the commands say. The clock runs no faster than people read, and no slower."""
    pieces, clock = [], 0.4
    for arguments, typed in STEPS:
        command = " ".join(["stemma", *(f'"{word}"' if " " in word else word for word in arguments)])
        pieces.append(Piece(clock, "$ ", "prompt"))
        clock = _type(pieces, clock, command + "\n", "typed") + 0.5
        clock = _run(pieces, clock, arguments, list(typed)) + 0.9
    return pieces


def _type(pieces: list[Piece], clock: float, text: str, kind: str) -> float:
    for letter in text:
        clock += 0.035
        pieces.append(Piece(clock, letter, kind))
    return clock


def _run(pieces: list[Piece], clock: float, arguments: list[str], typed: list[str]) -> float:
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "stemma", *arguments], bufsize=0, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for line in typed:
            clock = _type(pieces, clock, f"> {line}\n", "typed") + 0.2
            process.stdin.write(f"{line}\n".encode())
            clock = _listen(pieces, clock, process.stdout, ends=line == "")
        process.stdin.close()
        return _listen(pieces, clock, process.stdout, ends=True)


def _listen(pieces: list[Piece], clock: float, output: IO[bytes], *, ends: bool) -> float:
    """Take down what is said until the next line is asked for, or the end."""
    os.set_blocking(output.fileno(), ends)
    silent_since, before, said = time.monotonic(), time.monotonic(), False
    while True:
        data = output.read(4096)
        now = time.monotonic()
        if data == b"" or (not ends and not data and said and now - silent_since > 4):
            return clock
        if not data:
            time.sleep(0.01)
            continue
        clock += min(0.25, now - before)
        pieces.append(Piece(clock, data.decode("utf-8", "replace").replace("> ", ""), "said"))
        silent_since = before = now
        said = True


def draw(pieces: list[Piece]) -> str:
    """An SVG of what was recorded."""
    faster = max(1.0, pieces[-1].at / (SECONDS - 2.5))
    rows: list[list[tuple[float, int, str, str]]] = [[]]
    breaks, column = [], 0
    for at, text, kind in pieces:
        for number, part in enumerate(text.split("\n")):
            if number:
                rows.append([])
                breaks.append(at / faster)
                column = 0
            if part:
                rows[-1].append((at / faster, column, part[: COLUMNS - column], kind))
                column += len(part)
    times = sorted({at for row in rows for at, *_ in row})
    names = {at: f"t{number}" for number, at in enumerate(times)}
    styles = [
        f"@keyframes {name}{{0%,{_percent(at)}{{opacity:0}}{_percent(at, 0.01)},100%{{opacity:1}}}}"
        f".{name}{{animation:{name} {SECONDS:g}s infinite}}"
        for at, name in names.items()
    ]
    texts = [
        f'<text x="{LEFT + column * LETTER:g}" y="{TOP + number * LINE}" '
        f'class="{kind} {names[at]}">{escape(part)}</text>'
        for number, row in enumerate(rows)
        for at, column, part, kind in row
        if part.strip()
    ]
    height = TOP + ROWS * LINE
    return SVG.format(
        width=2 * LEFT + COLUMNS * LETTER, height=height, inner=height - 34,
        styles="\n".join([*styles, _scroll(breaks)]),
        texts="\n".join(texts), seconds=SECONDS, end=max(0, len(rows) - ROWS) * LINE,
    )  # fmt: skip


def _scroll(breaks: list[float]) -> str:
    """Rows go up when the window is full."""
    steps = ["0%{transform:none}"]
    for number, at in enumerate(breaks, 2):
        if number > ROWS:
            steps.append(f"{_percent(at)}{{transform:translateY(-{(number - ROWS) * LINE}px)}}")
    return f"@keyframes up{{{''.join(steps)}}}"


def _percent(at: float, more: float = 0.0) -> str:
    return f"{at / SECONDS * 100 + more:.2f}%"


SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}"
  height="{height}" role="img">
<title>stemma in a terminal: a text, a chat, and the tree that they leave</title>
<style>
text{{font:13.3px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d8dee4;white-space:pre}}
.prompt{{fill:#5fd0a0}}.typed{{fill:#fff}}
#rows{{transform:translateY(-{end}px);animation:up {seconds:g}s step-end infinite}}
{styles}
@media (prefers-reduced-motion:reduce){{*{{animation:none!important}}}}
</style>
<rect width="100%" height="100%" rx="9" fill="#12171a"/>
<g fill="#2c353b"><circle cx="20" cy="17" r="6"/><circle cx="40" cy="17" r="6"/><circle cx="60" cy="17" r="6"/></g>
<svg y="34" width="100%" height="{inner}" overflow="hidden"><g transform="translate(0 -34)"><g id="rows">
{texts}
</g></g></svg>
</svg>
"""


def main() -> None:
    PICTURE.write_text(draw(record()), encoding="utf-8")
    print(f"{PICTURE.name}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
