"""A state as a page: its text, coloured by where each token came from. Readable in light and in dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from stemma.lang.reports.origins import OriginSpan
from stemma.runtime.model import Tokenizer

STYLES = {
    "cached": ("#3b82f6", "solid", "cached: found in the tree"),
    "computed": ("#a855f7", "dashed", "computed: prefilled"),
    "sampled": ("#10b981", "double", "sampled: chosen by the model"),
    "forced": ("#f59e0b", "dotted", "forced: by the form"),
    "new": ("#9ca3af", "none", "not yet given to the model"),
}
"""Colour and underline, so that colour alone never tells."""


def picture(tokens: Sequence[int], origins: Sequence[OriginSpan], tokenizer: Tokenizer) -> str:
    """HTML of a sequence of tokens."""
    spans: list[str] = []
    start = 0
    for origin, end in [*origins, ("new", len(tokens))]:
        text = text_of(tokens[start:end], tokenizer)
        if text:
            spans.append(f"<span style='{_style(origin)}' title='{STYLES[origin][2]}'>{escape(text)}</span>")
        start = max(start, end)
    legend = " ".join(f"<span style='{_style(origin)}'>{escape(STYLES[origin][2])}</span>" for origin in STYLES)
    return (
        f"<div style='font-family:monospace;white-space:pre-wrap;line-height:1.7'>{''.join(spans)}</div>"
        f"<div style='font-size:85%;opacity:.8;margin-top:.5em'>{legend}</div>"
    )


def text_of(tokens: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of tokens, special ones written out."""
    names = tokenizer.special_names
    pieces = [names.get(token, "").encode() or tokenizer.token_bytes(token) or b"" for token in tokens]
    return b"".join(pieces).decode("utf-8", "replace")


def _style(origin: str) -> str:
    colour, line, _ = STYLES[origin]
    return f"background:{colour}33;border-bottom:3px {line} {colour};margin-right:1px"
