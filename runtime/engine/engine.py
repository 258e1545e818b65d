"""The engine people hold: a model, its KV pool, and the loop's thread, usable from plain Python, asyncio and notebooks.

No HTTP, no DSL: those stand above and call `submit`.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import numpy as np
import numpy.typing as npt

from stemma.radix import Explanation, PrefixCache, Retained
from stemma.runtime.core.admission import placed
from stemma.runtime.core.checking import check_function, check_list, checked, describe
from stemma.runtime.core.config import EngineConfig, EngineOptions, engine_config
from stemma.runtime.core.sampler import Sampler
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.engine.drafting import make_draft
from stemma.runtime.engine.embedding import Embedder, Embedding, EmbeddingOptions, Score, Scorer, ScoringOptions
from stemma.runtime.engine.forms import Answer, form_of
from stemma.runtime.engine.generation import Completion, Generation
from stemma.runtime.engine.grammars import GrammarSpec
from stemma.runtime.engine.hold import Hold
from stemma.runtime.engine.loop import EngineLoop, Entrance
from stemma.runtime.engine.metrics import EngineStats
from stemma.runtime.engine.namespaces import namespace_of
from stemma.runtime.engine.options import Prompt, RequestMaker, RequestOptions, split_prompts, token_ids
from stemma.runtime.engine.progress import check_progress, wait
from stemma.runtime.engine.ranks import Ranks, check_whole, load_ranks, preparing
from stemma.runtime.engine.recommended import recommended
from stemma.runtime.engine.reserve import limits_of
from stemma.runtime.engine.resources import (
    context_of,
    make_memory,
    make_ops,
    make_scheduler,
    on_a_device,
    room_of,
    settled,
)
from stemma.runtime.engine.saving import PROBE_NAMESPACE, CacheFile, Saver, every, probe_tokens, saver
from stemma.runtime.engine.sharing import SharedText, SharedTexts
from stemma.runtime.engine.submitter import Submitter
from stemma.runtime.engine.tiering import put_beneath, tier_options
from stemma.runtime.engine.tree import TreeNode, snapshot
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import ChatTemplate, LoadedModel, Tokenizer, load
from stemma.runtime.model.pull import default_model
from stemma.runtime.tongues.recognise import recognise
from stemma.runtime.tongues.tongue import Tongue

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
Progress = Callable[[str, float], None]


class Engine:
    """A model that generates through a radix tree of KV blocks.

        with stemma.Engine() as llm:
            print(llm.generate("The capital of France is", max_tokens=8).text)

    model: a .gguf file, a Hugging Face folder or hub id; None is the default, SmolLM2-135M-Instruct, fetched once.
    adapters: folders of PEFT, GGUF files or hub ids, merged into the model when it is loaded.
    loras: likewise, by names, merged into nothing: a request chooses one of them (`lora="name"`), or none.
    draft: a smaller model with the same vocabulary, likewise, that guesses what this one will say (docs/drafts.md).
    progress: called with what is being done and the share of it that is done, 0 to 1.
    options: EngineConfig's fields.
    Raises ModelError if the model cannot be had or read, InvalidRequest for options that cannot be met.

    tiering: the tiers beneath its cache; None without any.

    Its thread ends when it is closed or nobody refers to it any more, its memory goes when nobody does; then requests
    under way still end.
    After a fork it is the parent's alone: in the child everything but `close` raises EngineForked.
    """

    def __init__(
        self, model: str | Path | None = None, *, adapters: Sequence[str | Path] = (),
        loras: Mapping[str, str | Path] = MappingProxyType({}), draft: str | Path | None = None,
        progress: Progress | None = None, **options: Unpack[EngineOptions],
    ) -> None:  # fmt: skip
        config = on_a_device(engine_config(options))
        checked(model, str | Path | None, "model")
        checked(adapters, list | tuple, "adapters")
        checked(loras, Mapping, "loras")
        source = default_model(progress) if model is None else model
        ops = make_ops(config)
        checked(draft, str | Path | None, "draft")
        guesser = None if draft is None else load(draft, ops, progress)
        ranks = load_ranks(source, config, ops, progress, adapters, loras)
        with ranks.together():
            self._start(ranks, config, guesser, progress)

    @classmethod
    def of(cls, loaded: LoadedModel, draft: LoadedModel | None = None, **options: Unpack[EngineOptions]) -> Self:
        """An engine on a model that is loaded already; device, backend and dtype are the model's."""
        engine = cls.__new__(cls)
        guesser = checked(draft, LoadedModel | None, "draft")
        config = engine_config(options)
        check_whole(config, "a loaded model is whole: give its file to Engine(...)")
        with (ranks := Ranks(checked(loaded, LoadedModel, "loaded"))).together():
            engine._start(ranks, config, guesser)
        return engine

    def _start(
        self, ranks: Ranks, config: EngineConfig, draft: LoadedModel | None, progress: Progress | None = None
    ) -> None:
        self.loaded = loaded = ranks.loaded
        self.config = config = settled(config, loaded.model.ops)
        tiers = tier_options(config, loaded)
        self.context_length = context_of(config, loaded.config)
        ops = loaded.model.ops
        room = room_of(config, loaded.config, ops, None if draft is None else draft.config)
        memory = make_memory(ops, room)
        full = room.shape.full
        self.kv_token_bytes = memory.full.num_bytes / (full.num_blocks * full.block_size)
        self._draft = make_draft(loaded, draft, full.num_blocks, config)
        scheduler = make_scheduler(config, room, self._draft)
        self.recommended = recommended(loaded.generation, config.generation_config)
        self.shared = SharedTexts(loaded, self.hold, self._compute if config.prefix_cache else None)
        self._requests = RequestMaker(loaded, self.context_length, scheduler.capacity, self.recommended, self.shared)
        limits = limits_of(config, self.context_length)
        runner = ranks.runner(memory, limits, progress)
        if self._draft is not None:
            self._draft.prepare(preparing(progress, "preparing steps of the draft model"))
        self._loop = EngineLoop(scheduler, runner, Sampler(ops))
        self._loop.at_end(ranks.close)
        self._submitter = Submitter(loaded, self._requests, self._loop)
        self.tiering = put_beneath(self._loop, self.saver, tiers)
        weakref.finalize(self, self._loop.leave).atexit = False

    # Generating ----------------------------------------------------------------
    @overload
    def generate(
        self, prompt: str | list[int], *, progress: bool | Progress | None = None, **options: Unpack[RequestOptions]
    ) -> Completion: ...

    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        progress: bool | Progress | None = None,
        **options: Unpack[RequestOptions],
    ) -> list[Completion]: ...

    @overload
    def generate(
        self,
        prompt: str | list[int],
        *,
        form: TypeForm[T],
        progress: bool | Progress | None = None,
        **options: Unpack[RequestOptions],
    ) -> Answer[T]: ...

    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]],
        *,
        form: TypeForm[T],
        progress: bool | Progress | None = None,
        **options: Unpack[RequestOptions],
    ) -> list[Answer[T]]: ...

    def generate(
        self,
        prompt: str | list[int] | list[str] | list[list[int]],
        *,
        form: Any = None,
        progress: bool | Progress | None = None,
        **options: Unpack[RequestOptions],
    ) -> Completion | list[Completion] | Answer[Any] | list[Answer[Any]]:
        """Complete one prompt, or a list of prompts as one prefix-aware batch, and wait.

        form: the type that each completion shall be a value of: a pydantic model, dataclass, TypedDict, Literal, Enum,
        union, list, int, float, bool. The model can say nothing else; the value comes validated.
        progress: True draws a bar; or a function that is called with what is done and the share of it that is done.
        Raises InvalidRequest, PromptTooLong or PoolExhausted; one prompt of a list that fails ends the others.
        """
        prompts, is_one = split_prompts(prompt)
        check_progress(progress)
        if form is None:
            completions = wait(self.submit_all(prompts, **options), progress)
            return completions[0] if is_one else completions
        reader = form_of(form)
        completions = wait(self.submit_all(prompts, **reader.over(options)), progress)
        answers = [Answer(reader.read(each), each) for each in completions]
        return answers[0] if is_one else answers

    def sample(self, prompt: str | list[int], n: int, **options: Unpack[RequestOptions]) -> list[Completion]:
        """`n` completions of one prompt, which share its blocks. Give a temperature, or they are all the same."""
        return wait(self.submit_samples(prompt, n, **options), None)

    @overload
    def embed(self, texts: str | list[int], **options: Unpack[EmbeddingOptions]) -> Embedding: ...

    @overload
    def embed(self, texts: list[str] | list[list[int]], **options: Unpack[EmbeddingOptions]) -> list[Embedding]: ...

    def embed(
        self, texts: str | list[int] | list[str] | list[list[int]], **options: Unpack[EmbeddingOptions]
    ) -> Embedding | list[Embedding]:
        """One text, or a list of texts, as vectors. Raises InvalidRequest, PromptTooLong or PoolExhausted."""
        given, is_one = split_prompts(texts)
        ask = self.embedder.ask(options)
        completions = wait(self.submit_all([ask.tokens(text) for text in given], **ask.request), None)
        embeddings = [ask.embedding(completion) for completion in completions]
        return embeddings[0] if is_one else embeddings

    def score(self, query: str, documents: Sequence[str], **options: Unpack[ScoringOptions]) -> list[Score]:
        """How well each document answers the query, in their order: by the model's word, yes or no; by the angle
        between embeddings where the model was made for these. Raises InvalidRequest, PromptTooLong or PoolExhausted."""
        check_list(documents, "documents")
        text = checked(query, str, "query")
        asked = self.scorer.ask([(text, checked(each, str, "documents")) for each in documents], options)
        return asked.scores(wait(self.submit_all(asked.prompts, **asked.request), None))

    def submit(self, prompt: Prompt, *, hold: Hold | None = None, **options: Unpack[RequestOptions]) -> Generation:
        """Start one request and return its handle at once: iterate it, await it, or call `result()`.

        hold: keeps the KV of prompt and completion when the request has ended.
        """
        self._loop.fork_guard.check()
        return self._submitter.one(prompt, options, hold)

    def submit_all(self, prompts: Sequence[Prompt], **options: Unpack[RequestOptions]) -> list[Generation]:
        """Start several requests between the same two steps; none is started if one is refused."""
        self._loop.fork_guard.check()
        check_list(prompts, "prompts")
        return self._submitter.all(prompts, options)

    def submit_samples(self, prompt: Prompt, n: int, **options: Unpack[RequestOptions]) -> list[Generation]:
        """Start `n` requests on one prompt, with the seeds seed, seed + 1, ..."""
        self._loop.fork_guard.check()
        return self._submitter.samples(prompt, n, options)

    def hold(self, pinned_for: float = 0.0) -> Hold:
        """A hold on nothing yet: give it to `submit`.

        pinned_for: seconds in which it does not yield, from when it has something; 0 is no pin. A request that would
        have all pins keep more than `pin_share` of the pool fails with PinRefused.
        """
        self._loop.fork_guard.check()
        seconds = checked(pinned_for, float, "pinned_for")
        if not seconds >= 0:
            raise InvalidRequest(f"pinned_for must be 0 seconds or more; it is {describe(pinned_for)}", "pinned_for")
        return Hold(self._loop, Retained(seconds or None))

    def share(self, text: Prompt, *, lora: str | None = None) -> SharedText:
        """Compute a text once for all namespaces, and keep it as a pin does until it is released; what follows it stays
        each namespace's own. Raises InvalidRequest, PromptTooLong, PinRefused or PoolExhausted."""
        checked(lora, str | None, "lora")
        return self.shared.add(self._requests.tokens(text), lora)

    def _compute(self, tokens: npt.NDArray[np.int32], namespace: str, lora: str | None, hold: Hold) -> None:
        self._submitter.compute(tokens, namespace, lora, hold)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.loaded.tokenizer

    @property
    def chat_template(self) -> ChatTemplate | None:
        """The model's chat template, if it has one."""
        return self.loaded.chat_template

    @property
    def embedder(self) -> Embedder:
        """How this model's embeddings are made, for those who submit requests themselves."""
        return Embedder(self.loaded)

    @property
    def scorer(self) -> Scorer:
        """How this model scores documents, likewise."""
        return Scorer(self.embedder)

    @cached_property
    def tongue(self) -> Tongue:
        """What the model's answers are written with: its calls, its thoughts; found in its chat template."""
        return recognise(self.loaded.chat_template, self.loaded.tokenizer, self.loaded.generation.eos_ids)

    @property
    def has_marks(self) -> bool:
        """Whether the model has windows or states, so that requests go on only where marks were left (`marks_at`)."""
        return self.loaded.config.marks is not None

    def prepare(self, grammar: GrammarSpec) -> None:
        """Compile a grammar, so that a later request with it starts at once. Raises InvalidRequest."""
        self._loop.fork_guard.check()
        self._submitter.prepare(grammar)

    def room(self, prompt_len: int) -> int:
        """Tokens that can follow a prompt of this length, by the context and the KV pool; may be negative."""
        return self._requests.room(checked(prompt_len, int, "prompt_len"))

    # Looking in, and the end ----------------------------------------------------------------
    def stats(self) -> EngineStats:
        """Counters and the cache's state, taken between two steps."""
        stats = self._loop.stats()
        return stats if self.tiering is None else self.tiering.told(stats)

    def with_cache(self, look: Callable[[PrefixCache], T]) -> T:
        """Call a function with the prefix cache between two steps, and return what it returns."""
        check_function(look, "look")
        return self._loop.call(lambda: look(self._loop.scheduler.cache)).result()

    def with_scheduler(self, look: Callable[[Scheduler], T]) -> T:
        """Call a function that only reads with the scheduler, between two steps, and return what it returns."""
        check_function(look, "look")
        return self._loop.call(lambda: look(self._loop.scheduler)).result()

    def explain(
        self, tokens: Sequence[int], namespace: str = "", lora: str | None = None, *, looks_elsewhere: bool = True
    ) -> Explanation:
        """How much of these tokens is cached now, computed with this adapter, and why it is not more; where it
        `looks_elsewhere`, the reason may be that another namespace has them."""
        ids = token_ids(tokens).astype(np.int32)
        name = namespace_of(self.loaded, checked(namespace, str, "namespace"), checked(lora, str | None, "lora"))
        shared = self.shared.segments(ids, name, lora)
        where = self.with_cache(lambda cache: placed(cache, ids, name, shared))
        found = self.with_cache(lambda cache: cache.explain(ids, where, looks_elsewhere=looks_elsewhere))
        return found if self.tiering is None else self.tiering.explained(found, ids, where)

    def tree(self) -> list[TreeNode]:
        """The cache's tree, taken between two steps."""
        return self.with_cache(lambda cache: snapshot(cache, time.monotonic()))

    def save_cache(
        self, path: str | Path, *, owns: Callable[[str], bool] | None = None, max_bytes: int | None = None,
        only_hot: bool = False,
    ) -> CacheFile:  # fmt: skip
        """Write the prefix cache with its KV to a file. Requests go on meanwhile.

        owns: which namespaces; None is all. only_hot: what was used last, as much as `max_bytes` have room for.
        Raises CacheFileError if the file would be longer than `max_bytes`.
        """
        file, most = Path(checked(path, str | Path, "path")), checked(max_bytes, int | None, "max_bytes")
        return self.saver().save(file, owns or every, most, only_hot=checked(only_hot, bool, "only_hot"))

    def load_cache(self, path: str | Path, *, owns: Callable[[str], bool] | None = None) -> CacheFile:
        """Put what was saved into free blocks. The pool may have another size, the model and its KV must be the same.

        Raises CacheFileError, with nothing changed, if they are not, or the file is damaged.
        """
        return self.saver().load(Path(checked(path, str | Path, "path")), owns or every)

    def enter_by(self, make: Callable[[EngineLoop], Entrance]) -> None:
        """Have requests go through another entrance than the loop's own."""
        self._submitter.enter_by(make)

    def saver(self) -> Saver:
        """How the cache's KV is read and put back, for those who move it; it computes a few tokens."""
        check_whole(self.config, "a cache is not saved, loaded, handed over or kept in tiers")
        options = RequestOptions(max_tokens=0, prompt_logprobs=0, namespace=PROBE_NAMESPACE)
        scored = self.generate(probe_tokens(self.loaded), **options).prompt_logprobs
        self.with_cache(lambda cache: cache.drop(PROBE_NAMESPACE))
        return saver(self.loaded, self._loop.runner.memory, [score.logprob for score in scored], self.with_cache)

    def close(self) -> None:
        """Stop the loop; requests that have not ended fail with EngineClosed. Safe to call twice."""
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
