"""`stemma.connect(url)`: programs, chats and values on a server, with token ids end to end.

The server's tokenizer and chat template come once, when the connection is made; texts are encoded here, prompts go as
ids and answers come as ids, so that a state's tokens are the same as with an engine of this process.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast, overload

from stemma.lang.loops import LoopThread
from stemma.lang.remote import reading
from stemma.lang.remote.body import body_of
from stemma.lang.remote.http import RemoteServer, read_usage
from stemma.radix import Explanation, NextUse, Reason
from stemma.runtime.core.checking import checked
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine import Completion, Delta, Generation, RequestOptions, Timing
from stemma.runtime.engine.embedding import Embedding, EmbeddingOptions, Score, ScoringOptions
from stemma.runtime.engine.forms import Answer, form_of
from stemma.runtime.engine.generation import join
from stemma.runtime.engine.options import split_prompts, with_defaults
from stemma.runtime.engine.progress import Report, wait
from stemma.runtime.engine.tree import TreeNode
from stemma.runtime.errors import InvalidRequest, RemoteError
from stemma.runtime.model import ChatTemplate, Tokenizer
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.tongues.recognise import recognise
from stemma.runtime.tongues.tongue import Tongue

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

PATIENCE = 60.0
Shown = bool | Report | None


def connect(url: str, *, api_key: str | None = None, patience: float = PATIENCE) -> Remote:
    """A model behind a Stemma server, with the face of an engine: `generate`, and what State, Chat and programs need.

    patience: seconds for which a request is tried again while the server is full or stops (429, 503), each time after
    the pause that the server names; 0 raises at once.
    Raises RemoteError if there is no such server, or it refuses the key.
    """
    return Remote(url, api_key, patience)


class Remote:
    """A connection to a server. Made by `connect`; close it, or use it in a `with` block.

    One that nobody refers to any more ends by itself when the requests under way have ended.
    """

    def __init__(self, url: str, api_key: str | None, patience: float = PATIENCE) -> None:
        with ExitStack() as stack:
            self._thread = stack.enter_context(LoopThread())
            self._server = RemoteServer(url, api_key, patience)
            stack.callback(_end_connections, self._thread, self._server)
            files = self._call("GET", "/tokenizer")
            self.model: str = files["model"]
            self.context_length: int = files["context_length"]
            self._tokenizer = Tokenizer(
                TokenizerFiles(
                    files["spec"], files["special"], files["adds_bos"], files["chat_template"], files["tool_template"]
                ),
                files["vocab_size"],
            )
            self._recommended = cast(RequestOptions, files["sampling"])
            self._ends: list[int] = files["ends"]
            source = files["chat_template"]
            self._chat_template = (
                None if source is None else ChatTemplate(source, self._tokenizer, files["tool_template"])
            )
            self._closing = stack.pop_all()
        weakref.finalize(self, self._thread.stop_soon).atexit = False

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def chat_template(self) -> ChatTemplate | None:
        """The model's chat template, if it has one."""
        return self._chat_template

    @cached_property
    def tongue(self) -> Tongue:
        """What the model's answers are written with."""
        return recognise(self._chat_template, self._tokenizer, self._ends)

    @property
    def has_marks(self) -> bool:
        """Places are not told over HTTP: there, the second that comes leaves a mark where the first was left."""
        return False

    # Generating ----------------------------------------------------------------
    @overload
    def generate(
        self, prompt: str | list[int], *, progress: Shown = None, **options: Unpack[RequestOptions]
    ) -> Completion: ...

    @overload
    def generate(
        self, prompt: list[str] | list[list[int]], *, progress: Shown = None, **options: Unpack[RequestOptions]
    ) -> list[Completion]: ...

    @overload
    def generate(
        self, prompt: str | list[int], *, form: TypeForm[T], progress: Shown = None, **options: Unpack[RequestOptions]
    ) -> Answer[T]: ...

    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        form: TypeForm[T],
        progress: Shown = None,
        **options: Unpack[RequestOptions],
    ) -> list[Answer[T]]: ...

    def generate(
        self, prompt: Any, *, form: Any = None, progress: Shown = None, **options: Unpack[RequestOptions]
    ) -> Any:
        """Complete one prompt, or a list of prompts side by side, and wait; see `Engine.generate`."""
        is_one = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
        prompts = [prompt] if is_one else prompt
        tokens = [self._tokenizer.encode_prompt(each) if isinstance(each, str) else each for each in prompts]
        if form is not None:
            options = form_of(form).over(options)
        completions = wait(self.submit_all(tokens, **options), progress)
        answers = completions if form is None else [Answer(form_of(form).read(each), each) for each in completions]
        return answers[0] if is_one else answers

    def sample(self, prompt: str | list[int], n: int, **options: Unpack[RequestOptions]) -> list[Completion]:
        """`n` completions of one prompt; see `Engine.sample`."""
        tokens = self._tokenizer.encode_prompt(prompt) if isinstance(prompt, str) else prompt
        return wait(self.submit_samples(tokens, n, **options), None)

    def submit_samples(self, prompt: Sequence[int], n: int, **options: Unpack[RequestOptions]) -> list[Generation]:
        """Start `n` requests on one prompt, with the seeds seed, seed + 1, ..."""
        if checked(n, int, "n") < 1:
            raise InvalidRequest(f"n must be at least 1; it is {n}", "n")
        seed = options.get("seed")
        several = [options if seed is None else RequestOptions(**{**options, "seed": seed + at}) for at in range(n)]
        return [self.submit(prompt, **each) for each in several]

    @overload
    def embed(self, texts: str | list[int], **options: Unpack[EmbeddingOptions]) -> Embedding: ...

    @overload
    def embed(self, texts: list[str] | list[list[int]], **options: Unpack[EmbeddingOptions]) -> list[Embedding]: ...

    def embed(
        self, texts: str | list[int] | list[str] | list[list[int]], **options: Unpack[EmbeddingOptions]
    ) -> Embedding | list[Embedding]:
        """One text, or a list of texts, as vectors; see `Engine.embed`."""
        given, is_one = split_prompts(texts)
        made: list[Embedding] = []
        for part in reading.parts(given):
            body = {"input": part, "encoding_format": "base64", **reading.body_of(options)}
            made += reading.embeddings_of(self._call("POST", "/v1/embeddings", body))
        return made[0] if is_one else made

    def score(self, query: str, documents: Sequence[str], **options: Unpack[ScoringOptions]) -> list[Score]:
        """How well each document answers the query; see `Engine.score`."""
        made: list[Score] = []
        for part in reading.parts(documents):
            body = {"text_1": query, "text_2": part, **reading.body_of(options)}
            made += reading.scores_of(self._call("POST", "/v1/score", body))
        return made

    def submit_all(self, prompts: Sequence[Sequence[int]], **options: Unpack[RequestOptions]) -> list[Generation]:
        """Start several requests."""
        return [self.submit(prompt, **options) for prompt in prompts]

    def submit(
        self, prompt: Sequence[int], *, hold: RemoteHold | None = None, **options: Unpack[RequestOptions]
    ) -> Generation:
        """Start one request. A hold with a pin has the server keep the prompt."""
        body = body_of(prompt, with_defaults(options, self._recommended))
        return self._start(hold.pin(body) if hold is not None and hold.pinned_for else self._server.generate(body))

    def explain(self, tokens: Sequence[int], namespace: str = "", lora: str | None = None) -> Explanation:
        """How much of these tokens is cached on the server, and why it is not more."""
        body: dict[str, Any] = {"tokens": list(tokens), **({"cache_salt": namespace} if namespace else {})}
        if lora is not None:
            body["model"] = lora
        found = self._call("POST", "/cache/explain", body)
        at = found["position"]
        return Explanation(
            num_tokens=found["num_tokens"],
            hit_len=found["hit_len"],
            reason=Reason[found["reason"].upper()],
            position=at,
            got=tokens[at] if at < len(tokens) else None,
            expected=tuple(each["token"] for each in found["expected"]),
            evicted_at=None,
            evicted_len=found["evicted_tokens"],
            copied_tokens=found["copied_tokens"],
            replayed_len=found["match_len"] - found["hit_len"],
            marks=tuple(found["marks"]),
            beneath_len=found.get("beneath_len", 0),
        )

    def tree(self) -> list[TreeNode]:
        """The part of the server's tree that this connection's key may see."""
        return reading.tree_of(self._call("GET", "/cache/tree?tokens=true"))

    def hold(self, pinned_for: float = 0.0) -> RemoteHold:
        """The server itself keeps what was used last; only a pin makes it promise that."""
        return RemoteHold(self, pinned_for)

    def _start(self, work: AsyncIterator[Delta | Completion]) -> Generation:
        tasks: list[asyncio.Task[None]] = []
        loop = self._thread.loop

        def cancel(generation: Generation, _connection: Remote = self) -> None:
            """Keeps the connection until the request has ended."""
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: tasks[0].cancel())

        def begin() -> None:
            said: list[Delta] = []
            tasks.append(loop.create_task(_feed(generation, said, work)))
            tasks[0].add_done_callback(lambda task: _end(generation, said, task))  # also if it never began

        generation = Generation(cancel)
        loop.call_soon_threadsafe(begin)
        return generation

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._thread.wait(self._server.call(method, path, body))

    def close(self) -> None:
        """End the connection; requests under way end with an error. Safe to call twice."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RemoteHold:
    """A pin on the server, if it was asked for; else nothing."""

    def __init__(self, remote: Remote, pinned_for: float) -> None:
        self._remote = remote
        self.pinned_for = pinned_for
        self._pin_id: str | None = None

    async def pin(self, body: dict[str, Any]) -> AsyncIterator[Delta | Completion]:
        """Have the prompt computed and kept."""
        asked = {"tokens": body["prompt_token_ids"], "ttl": self.pinned_for}
        asked |= {name: body[name] for name in ("cache_salt", "model") if name in body}
        made = await self._remote._server.call("POST", "/cache/pin", asked)
        self._pin_id = made["id"]
        yield Completion("", (), "length", read_usage(made["usage"]), Timing(0.0, 0.0, 0.0))

    def fork(self) -> RemoteHold:
        """A second one on nothing."""
        return RemoteHold(self._remote, 0.0)

    def release(self, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """Let go of the pin. Hints go with requests; a server keeps no path for a hold."""
        pin_id, self._pin_id = self._pin_id, None
        if pin_id is not None:
            try:
                self._remote._call("DELETE", f"/cache/pins/{pin_id}")
            except RemoteError as error:
                if error.status != 404:  # it ran out meanwhile
                    raise


def _end_connections(thread: LoopThread, server: RemoteServer) -> None:
    """A fork leaves them to the process that made them."""
    if thread.is_here:
        thread.wait(server.close())


async def _feed(generation: Generation, said: list[Delta], work: AsyncIterator[Delta | Completion]) -> None:
    """Give a generation what comes."""
    async for item in work:
        if isinstance(item, Completion):
            generation.finish(item)
        else:
            said.append(item)
            generation.push(item)


def _end(generation: Generation, said: list[Delta], task: asyncio.Task[None]) -> None:
    """However the feeding ended, so does the generation. What an aborted one cost, no server says any more."""
    if task.cancelled():
        if not generation.is_done:
            heard, timing = join(said), Timing(0.0, 0.0, 0.0)
            generation.finish(Completion(heard.text, heard.tokens, "abort", Usage(), timing, heard.logprobs))
    elif (error := task.exception()) is not None:
        generation.fail(error)
