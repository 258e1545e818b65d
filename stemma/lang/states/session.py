"""What the states of one program's run have in common: the model, and that all of them end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakSet

from stemma.lang.backend import Backend
from stemma.lang.states.transcript import Encoder
from stemma.runtime.engine.forms import Form, form_of


class Releasable(Protocol):
    """Something that holds blocks."""

    def release(self) -> None:
        """Let go of them."""


@dataclass(slots=True)
class Session:
    """The model of a run and the states that were made in it. form_of: how outputs are read."""

    llm: Backend
    form_of: Callable[[Any], Form] = form_of
    states: WeakSet[Releasable] = field(default_factory=WeakSet)

    @property
    def encoder(self) -> Encoder:
        """The model's text."""
        return Encoder(self.llm.tokenizer, self.llm.chat_template, self.llm.tongue)

    def close(self) -> None:
        """Let go of every state: cancel what is under way, give blocks back."""
        for state in list(self.states):
            state.release()
