"""Where other states will go on from a prompt. Only models with windows or states need to be told (docs/radix.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np

from stemma.lang.states.session import Session
from stemma.lang.states.transcript import Message, Transcript
from stemma.runtime.core.admission import common_prefix
from stemma.runtime.engine import RequestOptions
from stemma.runtime.errors import ModelError


def with_places(
    session: Session, transcript: Transcript, prompt: Sequence[int], options: RequestOptions
) -> RequestOptions:  # fmt: skip
    """The options of a request with this prompt, which says where others will go on from it."""
    if not session.llm.has_marks:
        return options
    places = {_common(session, other, prompt) for other in _others(transcript)} - {0}
    return {**options, "marks_at": sorted(places)} if places else options


def _others(transcript: Transcript) -> Iterator[Transcript]:
    """What others may go on as: with another question behind the system turns, which is known behind the first answer;
    or, as the branches of a fork do, with more text in the turn that is open."""
    leading = tuple(takewhile(lambda message: message.role == "system", transcript.messages))
    if leading and transcript.answer is None:
        yield replace(transcript, messages=(*leading, Message("user", ".")))
    if transcript.messages and not transcript.is_answering:
        yield transcript.with_text(".")


def _common(session: Session, other: Transcript, prompt: Sequence[int]) -> int:
    try:
        tokens = other.encode(session.encoder)
    except ModelError:  # a template that takes no such chat
        return 0
    return common_prefix(np.array(tokens, np.int32), np.array(prompt, np.int32))
