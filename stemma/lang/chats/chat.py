"""Chat sessions on one state each. Every turn after the first costs only its new tokens, because what was generated is
kept as token ids and never encoded again; chats with the same system prompt share its path of the cache's tree.

turn 1   [ system, user 1, prompt of the answer ][ answer 1 as generated ]
turn 2   [------------------- cached ------------------------------------][ user 2, prompt ][ answer 2 ]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, Unpack, overload

from stemma.lang.backend import Backend
from stemma.lang.chats.chat_file import SavedChat, SavedTurn, read_chat, write_chat
from stemma.lang.chats.reply import MAX_ROUNDS, Approve, Reply, rules_of
from stemma.lang.states.state import Mark, State
from stemma.lang.values.tools import Tool
from stemma.runtime.core.checking import checked, describe
from stemma.runtime.engine import RequestOptions
from stemma.runtime.errors import ModelError, StateError

if TYPE_CHECKING:
    from typing_extensions import TypeForm

Value = TypeVar("Value")


class Turn(NamedTuple):
    """A question with its answer. before: where the chat stood when it was asked."""

    question: str
    answer: str
    before: Mark


class Chat:
    """A conversation with a model's chat template.

        chat = stemma.Chat(llm, system="You are terse.")
        print(chat.send("Hi").result())        # or `await chat.send("Hi")`, or iterate over it
        other = chat.fork()                    # shares everything so far
        chat.regenerate(temperature=0.8).result()
        chat.edit(0, "Good evening").result()
        chat.undo()

    tools: functions that the model may call before it answers, Python's or `stemma.Tool`; they are run, and it is told
    what they result in. max_rounds: answers with calls before the one without; one more is a ToolLimit.
    approve: asked before each call is made, may be asynchronous; the model is told of a no.
    options: RequestOptions for every answer. Raises ModelError if the model has no chat template, InvalidRequest for
    tools that cannot be told or run.
    """

    def __init__(
        self, llm: Backend, system: str | None = None, *, tools: Sequence[Tool | Callable[..., Any]] = (),
        max_rounds: int = MAX_ROUNDS, approve: Approve | None = None, **options: Unpack[RequestOptions],
    ) -> None:  # fmt: skip
        if llm.chat_template is None:
            raise ModelError("this model has no chat template: use generate, or an instruct model")
        self._llm = llm
        self._options = options
        self._rules = rules_of(tools, max_rounds, approve)
        self._state = State(llm, **options).tools(*self._rules.tools)
        self._reply: Reply[Any] | None = None
        self.turns: tuple[Turn, ...] = ()
        if system is not None:
            self._state.system(system)

    # Talking ----------------------------------------------------------------
    @overload
    def send(self, text: str, **options: Unpack[RequestOptions]) -> Reply[str]: ...

    @overload
    def send(self, text: str, form: TypeForm[Value], **options: Unpack[RequestOptions]) -> Reply[Value]: ...

    def send(self, text: str, form: Any = str, **options: Unpack[RequestOptions]) -> Reply[Any]:
        """Ask. The answer joins the chat when it has ended; a reply that is cancelled or fails leaves no trace.

        form: a type that the answer shall be a value of, as in `State.gen`.
        Raises StateError while another reply is under way.
        """
        self._check_idle()
        return self._ask(self.turns, self._state.mark(), text, form, options)

    def regenerate(self, **options: Unpack[RequestOptions]) -> Reply[str]:
        """Answer the last question anew, in place of its answer. Without a temperature it will be the same."""
        return self.edit(len(self.turns) - 1, self._turn(-1).question, **options)

    def edit(self, index: int, text: str, **options: Unpack[RequestOptions]) -> Reply[str]:
        """Ask `text` in place of turn `index`; that turn and those after it go when the new answer has ended."""
        before = self._turn(index).before
        return self._ask(self.turns[: index % len(self.turns)], before, text, str, options)

    def undo(self) -> Turn:
        """Take back the last turn and return it. Raises StateError if there is none."""
        turn = self._turn(-1)
        self._state.back_to(turn.before)
        self.turns = self.turns[:-1]
        return turn

    def fork(self) -> Chat:
        """A second chat with the same past, in constant time."""
        self._check_idle()
        tools, max_rounds, approve = self._rules
        fork = Chat(self._llm, tools=tools, max_rounds=max_rounds, approve=approve, **self._options)
        fork._state.release()
        fork._state, fork.turns = self._state.copy(), self.turns
        return fork

    def _ask(self, turns: tuple[Turn, ...], before: Mark, text: str, form: Any, options: RequestOptions) -> Reply[Any]:
        """Ask on a copy of the state, which becomes the chat's when the answer is there."""
        state = self._state.copy().back_to(before)

        def end(reply: Reply[Any]) -> None:
            self._reply = None
            if reply.is_done:
                self._state, state_before = state, self._state
                state_before.release()
                self.turns = (*turns, Turn(text, reply.completion.text, before))
            else:
                state.release()

        self._reply = Reply(state.user(text), self._rules, form, options, end)
        return self._reply

    def _turn(self, index: int) -> Turn:
        self._check_idle()
        if not -len(self.turns) <= checked(index, int, "index") < len(self.turns):
            raise StateError(f"there is no turn {describe(index)}: the chat has {len(self.turns)}")
        return self.turns[index]

    def _check_idle(self) -> None:
        if self._reply is not None:
            raise StateError("a reply is under way: await it, call its result(), or stop() or cancel() it first")

    # Looking in ----------------------------------------------------------------
    @property
    def state(self) -> State:
        """A copy of the chat's state, to run a program's steps on."""
        self._check_idle()
        return self._state.copy()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The chat so far, as roles and contents; calls and their results as OpenAI writes them."""
        return [message.value for message in self._state.messages]

    @property
    def tokens(self) -> tuple[int, ...]:
        """The chat's tokens, what was generated as it was generated."""
        return self._state.tokens

    # Keeping ----------------------------------------------------------------
    def save(self, path: str | Path) -> None:
        """Write the chat to a JSON file, its token ids included, so that `load` finds what is still cached."""
        self._check_idle()
        transcript = self._state.mark().transcript
        turns = [
            SavedTurn(turn.question, turn.answer, len(turn.before.transcript.messages),
                      len(turn.before.transcript.base), turn.before.transcript.covered)
            for turn in self.turns
        ]  # fmt: skip
        write_chat(Path(path), SavedChat(transcript, turns), self._llm.tokenizer)

    @classmethod
    def load(
        cls, llm: Backend, path: str | Path, *, tools: Sequence[Tool | Callable[..., Any]] = (),
        max_rounds: int = MAX_ROUNDS, approve: Approve | None = None, **options: Unpack[RequestOptions],
    ) -> Chat:  # fmt: skip
        """A chat that `save` wrote, with the tools that it had.

        Raises StateError if it is another file, or of another tokenizer, or with other tools.
        """
        chat = cls(llm, tools=tools, max_rounds=max_rounds, approve=approve, **options)
        saved = read_chat(Path(path), llm.tokenizer, chat._rules.tools)
        chat._state.back_to(Mark(saved.transcript, ()))
        chat.turns = tuple(Turn(turn.question, turn.answer, Mark(saved.before(turn), ())) for turn in saved.turns)
        return chat

    @classmethod
    def of_messages(
        cls, llm: Backend, messages: Iterable[Mapping[str, Any]], **options: Unpack[RequestOptions]
    ) -> Chat:
        """A chat that goes on from roles and contents: an optional system message, then users and assistants by turns.

        Raises StateError for any other order.
        """
        chat = cls(llm, **options)
        before: Mark | None = None
        for message in messages:
            if isinstance(message, Mapping) and message.get("tool_calls"):
                raise StateError("calls are not taken from messages: save() and load() keep them")
            read = checked(message, Mapping[str, str], "messages")
            role, text = read.get("role"), read.get("content", "")
            if role == "user" and before is None:
                before = chat._state.mark()
                chat._state.user(text)
            elif role == "assistant" and before is not None:
                chat.turns = (*chat.turns, Turn(str(chat._state), text, before))
                chat._state.assistant(text)
                before = None
            elif role == "system" and not chat._state.messages:
                chat._state.system(text)
            else:
                raise StateError(
                    f"a message of {role!r} cannot stand here: give system, then user and assistant by turns"
                )
        if before is not None:
            raise StateError("the last message is a user's: leave it out, and send() it")
        return chat

    def release(self) -> None:
        """Let go of the cache's blocks; happens by itself when the chat is no longer used."""
        if self._reply is not None:
            self._reply.cancel()
        self._state.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
