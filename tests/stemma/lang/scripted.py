"""A model that says what it is told to, in any tongue: what comes of an answer is looked at without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stemma.lang.programs.dry import DryHold
from stemma.radix import Explanation
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine import Completion, Delta, Generation, Timing
from stemma.runtime.errors import StateError
from stemma.runtime.model import ChatTemplate
from tests.runtime.tongues.making import shown, template, tokenizer, tongue


class Scripted:
    """A back end of this template. answers: what it says, one after the other. asked: prompts and options."""

    def __init__(self, source: str, *answers: str, finish_reason: str = "stop") -> None:
        self.tokenizer = tokenizer()
        self.chat_template: ChatTemplate = template(source)
        self.tongue = tongue(source)
        self.asked: list[tuple[tuple[int, ...], dict[str, Any]]] = []
        self.has_marks = False
        self._answers = list(answers)
        self._finish_reason: Any = finish_reason

    def submit(self, prompt: Sequence[int], *, hold: Any = None, **options: Any) -> Generation:
        self.asked.append((tuple(prompt), options))
        if not self._answers:
            raise StateError("the script is over")
        text = self._answers.pop(0)
        tokens = tuple(self.tokenizer.encode_template(text))
        generation = Generation(lambda generation: None)
        for char in text:
            generation.push(Delta(char, ()))
        usage = Usage(prompt_tokens=len(prompt), completion_tokens=len(tokens))
        generation.finish(Completion(text, tokens, self._finish_reason, usage, Timing(0.0, 0.0, 0.0)))
        return generation

    def submit_all(self, prompts: Sequence[Sequence[int]], **options: Any) -> list[Generation]:
        return [self.submit(prompt, **options) for prompt in prompts]

    def explain(self, tokens: Sequence[int], namespace: str = "") -> Explanation:
        raise NotImplementedError

    def hold(self, pinned_for: float = 0.0) -> DryHold:
        return DryHold()

    def shown(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones by their names."""
        return shown(tokens)
