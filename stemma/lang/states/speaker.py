"""A model's turn in a chat, by its tongue: special tokens that are shown, forms that bind behind the thoughts, and what
was said told apart from what was thought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stemma.lang.backend import Backend
from stemma.lang.states.transcript import Transcript
from stemma.lang.values.hearing import Ear, Heard, PlainEar, TongueEar
from stemma.runtime.engine import Completion, RequestOptions
from stemma.runtime.tongues.answer_grammar import AnswerGrammar
from stemma.runtime.tongues.tongue import Standing, Tongue, prompt_end


@dataclass(frozen=True, slots=True)
class Speaker:
    """How one output is asked for and read. shown: special tokens in its text. tongue: None for plain words."""

    tongue: Tongue | None = None
    standing: Standing = "answering"
    shown: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, llm: Backend, transcript: Transcript, prompt: Sequence[int]) -> Speaker:
        """Of a turn that begins; a text, and a turn that goes on, are plain words."""
        tongue = llm.tongue
        if transcript.is_plain or transcript.open_text or tongue.is_plain:
            return cls()
        shown = {llm.tokenizer.special[text]: text for text in tongue.shown}
        return cls(tongue, tongue.standing(prompt_end(prompt, llm.tokenizer)), shown)

    def over(self, options: RequestOptions) -> RequestOptions:
        """These options, for a turn of this tongue."""
        if self.tongue is None:
            return options
        told: RequestOptions = {**options, "shown_tokens": list(self.shown)}
        grammar = told.get("grammar")
        if grammar is not None:
            told["grammar"] = AnswerGrammar(self.tongue, otherwise=grammar, standing=self.standing)
        return told

    def without_close(self, text: str) -> str:
        """An output without what closes its words, which the template writes itself behind an answer."""
        return text if self.tongue is None else text.removesuffix(self.tongue.closes)

    def ear(self) -> Ear:
        """For the text as it comes."""
        return PlainEar() if self.tongue is None else TongueEar(self.tongue, self.standing)

    def heard(self, completion: Completion) -> Heard:
        """All that was said and thought."""
        ear = self.ear()
        first, rest = ear.push(completion.text), ear.finish()
        return Heard(first.words + rest.words, first.thoughts + rest.thoughts)
