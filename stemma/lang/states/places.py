"""Where other states will go on from a prompt: behind the system turns, with which many begin. Only models with windows
or states need to be told (docs/radix.md)."""

from __future__ import annotations

from collections.abc import Sequence
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
    """The options of a request with this prompt, which says where its system turns end. Behind the first answer the
    place is known already."""
    if not session.llm.has_marks or transcript.answer is not None:
        return options
    leading = tuple(takewhile(lambda message: message.role == "system", transcript.messages))
    if not leading:
        return options
    other = replace(transcript, messages=(*leading, Message("user", ".")))
    try:
        tokens = other.encode(session.encoder)
    except ModelError:  # a template that takes no such chat
        return options
    place = common_prefix(np.array(tokens, np.int32), np.array(prompt, np.int32))
    return {**options, "marks_at": [place]} if place else options
