"""A back end that computes nothing: it writes down what a program asks and answers at once with placeholders.

Its tokens are bytes and its chat template is a plain one, so that sizes are in characters, of any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Unpack

from stemma.lang.programs.placeholder import placeholder
from stemma.radix import Explanation, NextUse, Reason
from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine import Completion, Delta, Generation, RequestOptions, Timing
from stemma.runtime.engine.forms import TEXT, Form, form_of
from stemma.runtime.model import ChatTemplate, Tokenizer
from stemma.runtime.model.tiny import TEMPLATE, byte_tokenizer
from stemma.runtime.tongues.recognise import recognise
from stemma.runtime.tongues.tongue import Tongue

VOCABULARY = 260
ANSWER = "⟨answer⟩"

Purpose = Literal["gen", "select", "prefill"]


class DryRequest(NamedTuple):
    """One request: its prompt in dry tokens."""

    purpose: Purpose
    prompt: tuple[int, ...]


class DryHold:
    """Holds nothing."""

    def fork(self) -> DryHold:
        """Another one."""
        return self

    def release(self, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """Nothing was held."""


class DryBackend:
    """Records every request in `asked`."""

    def __init__(self) -> None:
        self.asked: list[DryRequest] = []
        self._tokenizer = Tokenizer(byte_tokenizer(), VOCABULARY)
        self._chat_template = ChatTemplate(TEMPLATE, self._tokenizer)

    @property
    def tokenizer(self) -> Tokenizer:
        """One token for each byte."""
        return self._tokenizer

    @property
    def chat_template(self) -> ChatTemplate:
        """Roles and contents, one after the other."""
        return self._chat_template

    @property
    def tongue(self) -> Tongue:
        """Plain words."""
        return recognise(None, self._tokenizer)

    @property
    def has_marks(self) -> bool:
        """One can go on anywhere."""
        return False

    def explain(self, tokens: Sequence[int], namespace: str = "", lora: str | None = None) -> Explanation:
        """Nothing is cached."""
        return Explanation(len(tokens), 0, Reason.NEVER_SEEN, 0, next(iter(tokens), None), (), None, 0, 0)

    def hold(self, pinned_for: float = 0.0) -> DryHold:
        """A hold on nothing."""
        return DryHold()

    def submit(self, prompt: Sequence[int], *, hold: Any = None, **options: Unpack[RequestOptions]) -> Generation:
        """Write it down; the generation has ended when it is returned."""
        scored = options.get("prompt_logprobs") is not None
        is_silent = options.get("max_tokens") == 0
        purpose: Purpose = "select" if scored else "prefill" if is_silent else "gen"
        self.asked.append(DryRequest(purpose, tuple(prompt)))
        text = "" if is_silent else ANSWER
        tokens = tuple(self._tokenizer.encode_continuation(text))
        scores = [TokenLogprob(token, -1.0) for token in prompt[options.get("scored_from", 1) :]] if scored else []
        generation = Generation(lambda generation: None)
        generation.push(Delta(text, tokens))
        usage = Usage(prompt_tokens=len(prompt), completion_tokens=len(tokens))
        generation.finish(Completion(text, tokens, "stop", usage, Timing(0.0, 0.0, 0.0), prompt_logprobs=tuple(scores)))
        return generation

    def submit_all(self, prompts: Sequence[Sequence[int]], **options: Unpack[RequestOptions]) -> list[Generation]:
        """Write them down."""
        return [self.submit(prompt, **options) for prompt in prompts]


def dry_form(form: Any) -> Form:
    """The form of a type whose value is a placeholder, whatever was said."""
    real = form_of(form)
    if real.is_text:
        return TEXT
    return Form(real.name, form, None, lambda text: placeholder(form, "answer"))
