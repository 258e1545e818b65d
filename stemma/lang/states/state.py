"""A state: a conversation or a text under way with a model, which a program extends, copies and forks.

It holds its path of the cache's tree, so that copies cost nothing and find everything computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeVar, Unpack, cast, overload

from stemma.lang.backend import Backend, Hold
from stemma.lang.reports.explain import StateExplanation, explained
from stemma.lang.reports.origins import OriginSpan, num_computed, with_generated, with_prompt
from stemma.lang.reports.picture import picture
from stemma.lang.reports.report import Report
from stemma.lang.reports.trace import TraceNode
from stemma.lang.states.fork import run_branches
from stemma.lang.states.pin import Pin
from stemma.lang.states.places import with_places
from stemma.lang.states.session import Session
from stemma.lang.states.speaker import Calling, Speaker, written
from stemma.lang.states.transcript import Message, Role, Transcript, keep
from stemma.lang.values.gen import Gen, Outcome
from stemma.lang.values.hearing import Ear, PlainEar
from stemma.lang.values.select import By, check_options, scores, scorings
from stemma.lang.values.tools import Said, Tool, ToolCall, result_text, tools_of
from stemma.radix import NextUse
from stemma.runtime.core.checking import checked, describe
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine import Completion, Generation, RequestOptions
from stemma.runtime.engine.forms import TEXT, Form
from stemma.runtime.errors import InvalidRequest, StateError
from stemma.runtime.tongues.answer_grammar import MAX_CALLS

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from stemma.runtime.engine.grammars import GrammarSpec

Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value")
Choice = TypeVar("Choice", bound=str)

MIN_PREFILL = 16
"""A fork computes what its branches share beforehand if that has at least so many new tokens."""

CALLED = Form("call", Said, None, lambda text: None)
"""Of the parts of an answer that may call: they have no value before its end."""

MAX_PREVIEW = 200
"""Characters of an output that a trace keeps."""


class Mark(NamedTuple):
    """A place in a state's past."""

    transcript: Transcript
    origins: tuple[OriginSpan, ...]


class State:
    """A conversation, or a text, under way with a model.

        s = stemma.State(llm)
        s.system("You are terse.").user("Name a colour.")
        colour = await s.gen(max_tokens=8)            # or s.gen(max_tokens=8).result()
        s.user("Why?")

    llm: an Engine, or what `connect` returns. options: RequestOptions for every gen of this state and its copies.
    Verbs that add text return the state itself. A state is used by one task at a time: copy it, or fork.
    """

    def __init__(self, llm: Backend, **options: Unpack[RequestOptions]) -> None:
        self._begin(Session(llm), llm.hold(), TraceNode("program", "state"), options)

    @classmethod
    def of(cls, session: Session, trace: TraceNode, options: RequestOptions) -> Self:
        """The first state of a program's run."""
        state = cls.__new__(cls)
        state._begin(session, session.llm.hold(), trace, options)
        return state

    def _begin(self, session: Session, hold: Hold, trace: TraceNode, options: RequestOptions) -> None:
        self._session = session
        self._hold = hold
        self.trace = trace
        self._options = options
        self._transcript = Transcript()
        self._origins: tuple[OriginSpan, ...] = ()
        self._pending: Gen[Any] | None = None
        session.states.add(self)

    # Text ----------------------------------------------------------------
    def system(self, text: str) -> Self:
        """Add a system turn."""
        return self._turn("system", text)

    def user(self, text: str) -> Self:
        """Add a user's turn."""
        return self._turn("user", text)

    def assistant(self, text: str = "") -> Self:
        """Open the model's turn, with the beginning of its answer; one that is open already goes on."""
        return self._turn("assistant", text)

    def text(self, text: str) -> Self:
        """More text in the turn that is open; before any turn, plain text without a chat template."""
        self._transcript = self._idle().with_text(checked(text, str, "text"))
        return self

    def tools(self, *tools: Tool | Callable[..., Any]) -> Self:
        """Offer functions, which `call` lets the model call: Python functions, or `stemma.Tool`.

        Raises StateError behind the first answer: a prompt begins with what may be called.
        """
        transcript = self._idle()
        self._transcript = transcript.with_tools(tools_of([*transcript.tools, *tools]))
        return self

    def result(self, call: ToolCall, result: Any) -> Self:
        """Tell the model what a call of its last answer resulted in: a text as it is, any other value as JSON.

        Raises StateError if no such call waits for it.
        """
        self._transcript = self._idle().with_result(checked(call, ToolCall, "call").id, result_text(result))
        return self

    def _turn(self, role: Role, text: str) -> Self:
        self._transcript = self._idle().with_turn(role, checked(text, str, "text"))
        return self

    def _idle(self) -> Transcript:
        if self._pending is not None:
            raise StateError(
                "this state has a value under way: await it or call its result() first, or work on a copy()"
            )
        return self._transcript

    # Generating ----------------------------------------------------------------
    @overload
    def gen(self, *, name: str | None = None, **options: Unpack[RequestOptions]) -> Gen[str]: ...

    @overload
    def gen(self, form: GrammarSpec, *, name: str | None = None, **options: Unpack[RequestOptions]) -> Gen[str]: ...

    @overload
    def gen(
        self, form: TypeForm[Value], *, name: str | None = None, **options: Unpack[RequestOptions]
    ) -> Gen[Value]: ...

    def gen(self, form: Any = str, *, name: str | None = None, **options: Unpack[RequestOptions]) -> Gen[Any]:
        """Let the model go on: with text, or with a value of a type. The request is submitted at once.

        form: a pydantic model, dataclass, TypedDict, Literal, Enum, union, list, int, float, bool; or a Regex or
        another grammar, whose value is its text. The model can say nothing else.
        name: what the report calls it. options: override those of the state.
        """
        reader = self._session.form_of(form)
        told = reader.over({**self._options, **options})
        return self._speak(reader, name or reader.name, Speaker.of, lambda said, calls: reader.read(said), told)

    @overload
    def call(
        self, *, required: bool = False, max_calls: int = MAX_CALLS, name: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> Gen[Said[str]]: ...  # fmt: skip

    @overload
    def call(
        self, form: TypeForm[Value], *, required: bool = False, max_calls: int = MAX_CALLS, name: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> Gen[Said[Value]]: ...  # fmt: skip

    def call(
        self, form: Any = str, *, required: bool = False, max_calls: int = MAX_CALLS, name: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> Gen[Said[Any]]:  # fmt: skip
        """Let the model call what `tools` offers, in its own way of writing calls, or answer: a `Said`.

        Each call wants its `result` before the state goes on. form: of an answer without calls. required: there must
        be a call. max_calls: of this answer. Raises IncompleteOutput for an answer that is cut inside a call, which
        leaves the state as it was.
        """
        reader = self._session.form_of(form)
        if checked(max_calls, int, "max_calls") < 1:
            raise InvalidRequest(f"max_calls must be at least 1; it is {describe(max_calls)}", "max_calls")
        calling = Calling(self._idle().tools, max_calls, checked(required, bool, "required"))

        def said(completion: Completion, calls: tuple[ToolCall, ...]) -> Said[Any]:
            return Said(completion.text, calls, None if calls else reader.read(completion))

        told = reader.over({**self._options, **options})
        return self._speak(CALLED, name or "call", partial(Speaker.with_tools, calling=calling), said, told)

    def _speak(
        self, form: Form, name: str, speaker_of: Callable[[Backend, Transcript, tuple[int, ...]], Speaker],
        read: Callable[[Completion, tuple[ToolCall, ...]], Value], options: RequestOptions,
    ) -> Gen[Value]:  # fmt: skip
        """The model's turn. form: of its parts. read: the value of what it says, and of what it calls."""
        transcript = self._idle().answering()
        prompt = transcript.encode(self._session.encoder)
        speaker = speaker_of(self._session.llm, transcript, prompt)
        node, started = self.trace.child("gen", name), time.perf_counter()

        def finish(completions: list[Completion]) -> Outcome[Value]:
            (completion,) = completions
            text = speaker.without_close(completion.text)
            kept = keep(completion.tokens, text, self._session.llm.tokenizer, speaker.shown)
            heard = speaker.heard(completion)
            calls = speaker.calls(heard, completion)
            said = completion._replace(text=heard.content)
            self._record(node, started, completion.usage, said.text or ", ".join(map(str, calls)))
            self._extend_runs(len(prompt), completion.usage.cached_tokens, len(kept.tokens), completion.jumped)
            kept = kept.closed(self._session.llm.tokenizer) if calls else kept
            self._transcript = transcript.with_generated(prompt, kept.tokens, said.text, kept.uncovered, written(heard))
            return Outcome(read(said, calls), said, completion.usage, {}, heard.reasoning)

        options = speaker.over(with_places(self._session, transcript, prompt, options))
        generation = self._session.llm.submit(prompt, hold=self._hold, **options)
        return self._start([generation], finish, form, speaker.ear)

    def select(self, options: Sequence[Choice], *, by: By = "likelihood", name: str | None = None) -> Gen[Choice]:
        """Let the model choose one of these texts, which becomes part of the state. `scores` tells how they did.

        by: "likelihood" takes the one whose tokens are the likeliest on average; "unconditional" subtracts from this
        what it is without the context, so that common words have no advantage; "mask" lets the model write with
        nothing else allowed: one request instead of one for each option, and no scores.
        Raises InvalidRequest unless the options are different texts.
        """
        check_options(options)
        checked(by, By, "by")
        if by == "mask":
            return cast("Gen[Choice]", self.gen(cast("Any", Literal)[tuple(options)], name=name or "select"))
        transcript = self._idle().answering()
        context = transcript.encode(self._session.encoder)
        tokenizer = self._session.llm.tokenizer
        tokens = [tuple(tokenizer.encode_continuation(option)) for option in options]
        node, started = self.trace.child("select", name or "select"), time.perf_counter()

        def finish(completions: list[Completion]) -> Outcome[Choice]:
            scored = scores(completions, len(options))
            best = scored.index(max(scored))
            usage = sum((completion.usage for completion in completions), Usage())
            self._record(node, started, usage, options[best])
            self._extend_runs(len(context), completions[best].usage.cached_tokens, len(tokens[best]), ())
            self._transcript = transcript.with_generated(context, tokens[best], options[best], "")
            return Outcome(options[best], completions[best], usage, dict(zip(options, scored, strict=True)))

        silent = self._silent()
        generations = []
        for prompt, first in scorings(context, tokens, by, tokenizer):
            scored: RequestOptions = {**silent, "prompt_logprobs": 0, "scored_from": first}
            generations.append(self._session.llm.submit(prompt, **scored))
        return self._start(generations, finish)

    def prefill(self, *, name: str | None = None) -> Gen[None]:
        """Compute what was said so far now, so that it is cached when it is needed. `fork` does this by itself."""
        prompt = self._idle().encode(self._session.encoder)
        node, started = self.trace.child("prefill", name or "prefix"), time.perf_counter()

        def finish(completions: list[Completion]) -> Outcome[None]:
            (completion,) = completions
            self._record(node, started, completion.usage, "")
            self._extend_runs(len(prompt), completion.usage.cached_tokens, 0, ())
            return Outcome(None, completion, completion.usage, {})

        options = with_places(self._session, self._transcript, prompt, self._silent())
        return self._start([self._session.llm.submit(prompt, hold=self._hold, **options)], finish)

    def _start(
        self, generations: list[Generation], finish: Callable[[list[Completion]], Outcome[Value]], form: Form = TEXT,
        ear: Callable[[], Ear] = PlainEar,
    ) -> Gen[Value]:  # fmt: skip
        """Make these requests the state's pending value."""

        def finish_here(completions: list[Completion]) -> Outcome[Value]:
            self._pending = None
            return finish(completions)

        def abandon() -> None:
            self._pending = None

        gen = Gen(generations, finish_here, abandon, form, ear)
        self._pending = gen
        return gen

    def _record(self, node: TraceNode, started: float, usage: Usage, text: str) -> None:
        node.usage, node.seconds, node.text = usage, time.perf_counter() - started, text[:MAX_PREVIEW]

    def _extend_runs(self, num_prompt: int, num_cached: int, num_generated: int, forced: Sequence[int]) -> None:
        self._origins = with_generated(with_prompt(self._origins, num_prompt, num_cached), num_generated, forced)

    def _silent(self) -> RequestOptions:
        """Options of a request that computes and says nothing, where this state's requests run."""
        silent: RequestOptions = {"max_tokens": 0}
        if "namespace" in self._options:
            silent["namespace"] = self._options["namespace"]
        if "lora" in self._options:
            silent["lora"] = self._options["lora"]
        if "priority" in self._options:
            silent["priority"] = self._options["priority"]
        return silent

    # Branches ----------------------------------------------------------------
    def copy(self, name: str | None = None) -> Self:
        """A second state with the same past, in constant time. name: what the report calls it."""
        self._idle()
        copy = type(self).__new__(type(self))
        trace = self.trace if name is None else self.trace.child("branch", name)
        copy._begin(self._session, self._hold.fork(), trace, self._options)
        copy._transcript, copy._origins = self._transcript, self._origins
        return copy

    async def fork(
        self,
        items: Iterable[Item],
        branch: Callable[[State, Item], Coroutine[Any, Any, Result]],
        *,
        limit: int | None = None,
    ) -> list[Result]:
        """Run `branch(copy of this state, item)` for every item at once and return the results in order.

        limit: how many run side by side; None is all. If a branch fails, its siblings are cancelled and BranchError,
        an ExceptionGroup, names it. However it ends, the branches let go: what they alone computed goes first.
        """
        limit = checked(limit, int | None, "limit")
        if limit is not None and limit < 1:
            raise InvalidRequest(f"limit must be at least 1; it is {describe(limit)}", "limit")
        if len(listed := list(items)) > 1 and len(self.tokens) - num_computed(self._origins) >= MIN_PREFILL:
            await self.prefill()
        return await run_branches(self, listed, branch, limit)

    def mark(self) -> Mark:
        """Where it stands, to come back to."""
        return Mark(self._idle(), self._origins)

    def back_to(self, mark: Mark) -> Self:
        """Take back everything since `mark`, which may be another state's of the same model."""
        self._idle()
        self._transcript, self._origins = mark
        return self

    # Looking in, and the end ----------------------------------------------------------------
    @property
    def tokens(self) -> tuple[int, ...]:
        """What the model is given for this state."""
        return self._transcript.encode(self._session.encoder)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turns so far; a plain text is one message without a role."""
        return self._transcript.messages

    def __str__(self) -> str:
        """The open turn's text, or the plain text."""
        return self._transcript.open_text

    def _repr_html_(self) -> str:
        return picture(self.tokens, self._origins, self._session.llm.tokenizer)

    def report(self) -> Report:
        """What this state and its branches did: print it, or show it in a notebook."""
        return Report(self.trace)

    def explain(self) -> StateExplanation:
        """How much of what was said so far is cached, where the cache stops matching, and why: print it."""
        tokens = self._idle().encode(self._session.encoder)
        where = self._options.get("namespace", ""), self._options.get("lora")
        found = self._session.llm.explain(tokens, *where)
        return explained(found, tokens, self._session.llm.tokenizer)

    def pinned(self, ttl: float = 300.0) -> Pin:
        """`with s.pinned(ttl=300):` computes what was said so far and keeps it from eviction while the block runs.

        ttl: seconds after which it may be evicted all the same.
        """
        return Pin(
            self._session.llm, self._idle().encode(self._session.encoder), checked(ttl, float, "ttl"), self._silent()
        )

    def release(self, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """Cancel what is under way and let go of the cache's blocks. Programs do this for their states.

        next_use: what is known of what was added since this state was copied, a hint to the eviction.
        """
        if self._pending is not None:
            self._pending.cancel()
        self._hold.release(next_use)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
