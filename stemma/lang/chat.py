"""Chat sessions. What was generated is kept as token ids and never encoded again, so each turn extends what is cached:

turn 1   [ system, user 1, prompt of the answer ][ answer 1 as generated ]
turn 2   [------------------- cached ------------------------------------][ user 2, prompt ][ answer 2 ]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Unpack

from stemma.runtime.engine import Completion, Delta, Engine, Generation, RequestOptions
from stemma.runtime.errors import ModelError, StemmaError
from stemma.runtime.model import ChatTemplate


class ChatError(StemmaError):
    """A chat was asked for something that its state does not allow."""


class Turn(NamedTuple):
    """One question with its answer. tokens: all of the chat up to the answer's last token, as generated."""

    question: str
    answer: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]


class Chat:
    """A conversation with a model's chat template.

        chat = stemma.Chat(llm, system="You are terse.")
        print(chat.send("Hi").result().text)
        other = chat.fork()      # shares everything so far
        chat.undo()

    options: RequestOptions for every turn. Raises ModelError if the model has no chat template.
    """

    def __init__(self, llm: Engine, system: str | None = None, **options: Unpack[RequestOptions]) -> None:
        if llm.loaded.chat_template is None:
            raise ModelError(f"{llm.loaded.config.name} has no chat template: use generate, or an instruct model")
        self._llm = llm
        self._template: ChatTemplate = llm.loaded.chat_template
        self._options = options
        self.system = system
        self.turns: tuple[Turn, ...] = ()
        self._reply: Reply | None = None

    def send(self, text: str, **options: Unpack[RequestOptions]) -> Reply:
        """Ask; the reply is streamed by iterating it, or waited for with `result()`. Waits for a reply under way."""
        self.settle()
        prompt = self._prompt(text)
        merged: RequestOptions = {**self._options, **options}
        generation = self._llm.submit(prompt, **merged)
        self._reply = Reply(self, text, tuple(prompt), generation)
        return self._reply

    def fork(self) -> Chat:
        """A second chat with the same past, on the same KV blocks."""
        self.settle()
        copy = Chat(self._llm, self.system, **self._options)
        copy.turns = self.turns
        return copy

    def undo(self) -> Turn:
        """Take back the last turn and return it. Raises ChatError if there is none."""
        self.settle()
        if not self.turns:
            raise ChatError("there is no turn to undo")
        *rest, last = self.turns
        self.turns = tuple(rest)
        return last

    def settle(self) -> None:
        """Wait for a reply under way, so that its turn is part of the chat."""
        if self._reply is not None:
            self._reply.result()

    @property
    def messages(self) -> list[Mapping[str, str]]:
        """The chat so far, as roles and contents."""
        start = [] if self.system is None else [{"role": "system", "content": self.system}]
        turns = [
            {"role": role, "content": content}
            for turn in self.turns
            for role, content in (("user", turn.question), ("assistant", turn.answer))
        ]
        return [*start, *turns]

    def _prompt(self, text: str) -> list[int]:
        """Tokens for the next turn: the last turn's own tokens where the template goes on from them."""
        whole = self._template.encode_chat([*self.messages, {"role": "user", "content": text}])
        if not self.turns:
            return whole
        last = self.turns[-1]
        answer = self._llm.loaded.tokenizer.encode_continuation(last.answer)
        encoded = [*last.prompt, *answer]
        if whole[: len(encoded)] != encoded:
            return whole  # the template writes the past anew, so its own words count
        rest = whole[len(encoded) :]
        if rest and rest[0] == last.tokens[-1]:  # the end token, which the model said itself
            del rest[0]
        return [*last.tokens, *rest]

    def _end_turn(self, reply: Reply, completion: Completion) -> None:
        if self._reply is reply:
            self._reply = None
            tokens = (*reply.prompt, *completion.tokens)
            self.turns = (*self.turns, Turn(reply.question, completion.text, reply.prompt, tokens))


class Reply:
    """An answer under way. Its turn joins the chat when it ends, aborted or not."""

    def __init__(self, chat: Chat, question: str, prompt: tuple[int, ...], generation: Generation) -> None:
        self._chat = chat
        self._generation = generation
        self.question = question
        self.prompt = prompt

    def result(self) -> Completion:
        """Wait for the whole answer."""
        completion = self._generation.result()
        self._chat._end_turn(self, completion)
        return completion

    def __iter__(self) -> Iterator[Delta]:
        yield from self._generation
        self.result()

    def cancel(self) -> None:
        """Stop answering; what was said so far becomes the turn's answer."""
        self._generation.cancel()
