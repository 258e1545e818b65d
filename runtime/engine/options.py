"""What a caller can say of one request, as keyword arguments, and the core's Request made from it.

Every value is checked here, by the types of `RequestOptions`, before the loop sees it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypedDict, cast, get_type_hints

import numpy as np
import numpy.typing as npt

from stemma.radix import NextUse
from stemma.runtime.core.checking import checked, describe
from stemma.runtime.core.config import MAX_MS
from stemma.runtime.core.pooling import Pooling
from stemma.runtime.core.sampling import MAX_LOGPROBS, Sampling
from stemma.runtime.core.sequence import Request
from stemma.runtime.engine.grammars import GrammarSpec
from stemma.runtime.engine.namespaces import namespace_of
from stemma.runtime.engine.sharing import SharedTexts
from stemma.runtime.errors import InvalidRequest, PromptTooLong
from stemma.runtime.model import LoadedModel

Prompt = str | Sequence[int] | npt.NDArray[np.int32]

NextUseName = Literal["never", "unknown", "soon"]

DEFAULT_MAX_TOKENS = 128


class RequestOptions(TypedDict, total=False):
    """Options of one request: Sampling's fields by name (or a whole Sampling), and how the request is run.

    max_tokens: the most tokens to generate; None is 128, or what the context leaves.
    namespace: a separate root of the cache: nothing is shared between namespaces.
    lora: which of the adapters that the model was loaded with (`loras`); None is the model alone.
    priority: larger goes first.
    ttft_ms: milliseconds within which the first token must come; once that cannot be met the request fails with
        DeadlineMissed. Of equals, the earlier deadline goes first.
    next_use: what is known of what is computed for this request: "soon" keeps it longer in the cache, "never" lets it
        go first. A hint, for what was not cached before; the cache learns by itself what comes back.
    marks_at: numbers of the prompt's tokens behind which other requests will go on, such as the end of a system prompt.
        In a model with windows or states they then go on there without computing anything again (docs/radix.md).
    prompt_logprobs, scored_from, finish_in_time, drafts: see Request.
    pooling: read a vector or log-probabilities off the prompt (see `Pooling`), instead of a completion.
    shown_tokens: special tokens that the text shows by their names, such as those that begin a call.
    grammar: how the completion must look: stemma.fsm's Regex, JSONSchema, Choices, EBNF, Lark, StructuralTags.
    """

    max_tokens: int | None
    namespace: str
    lora: str | None
    priority: int
    ttft_ms: float | None
    next_use: NextUseName
    marks_at: Sequence[int]
    prompt_logprobs: int | None
    scored_from: int
    finish_in_time: bool
    drafts: bool
    pooling: Pooling | None
    shown_tokens: Sequence[int]
    grammar: GrammarSpec | None
    sampling: Sampling
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int | None
    logit_bias: Mapping[int, float]
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    min_tokens: int
    include_stop: bool
    logprobs: int | None


@dataclass(frozen=True, slots=True)
class RequestMaker:
    """Checks options against a model and its engine, and makes requests. Touches no engine state.

    recommended: options that count where a request gives none of these names, nor a whole Sampling.
    shared: texts that requests of all namespaces may begin with.
    """

    loaded: LoadedModel
    context_length: int
    pool_tokens: int
    recommended: RequestOptions
    shared: SharedTexts

    def make(self, prompt: Prompt, options: RequestOptions) -> Request:
        """Raises InvalidRequest or PromptTooLong, whose `param` says what to change."""
        asked, sampling = checked_options(with_defaults(options, self.recommended))
        tokens = self.tokens(prompt)
        for name in ("logit_bias", "stop_token_ids"):
            for token in getattr(sampling, name):
                self._check_token(token, name)
        for token in asked.get("shown_tokens", ()):
            self._check_token(token, "shown_tokens")
        prompt_logprobs = asked.get("prompt_logprobs")
        if prompt_logprobs is not None and not 0 <= prompt_logprobs <= MAX_LOGPROBS:
            raise InvalidRequest(f"prompt_logprobs must be between 0 and {MAX_LOGPROBS}", "prompt_logprobs")
        scored_from = asked.get("scored_from", 1)
        if not 1 <= scored_from <= len(tokens):
            raise InvalidRequest(f"scored_from must be between 1 and the prompt's {len(tokens)} tokens", "scored_from")
        if asked.get("finish_in_time") and sampling.logprobs is not None:
            raise InvalidRequest("finish_in_time forces tokens that have no logprobs; leave one out", "finish_in_time")
        marks_at = asked.get("marks_at", ())
        if wrong := [place for place in marks_at if not 1 <= place <= len(tokens)]:
            raise InvalidRequest(
                f"marks_at: {describe(wrong[0])} is no place in the prompt's {len(tokens)} tokens", "marks_at"
            )
        ttft_ms = asked.get("ttft_ms")
        if ttft_ms is not None and not 0 < ttft_ms <= MAX_MS:
            raise InvalidRequest(
                f"ttft_ms must be above 0 and at most {MAX_MS:g}; it is {describe(ttft_ms)}", "ttft_ms"
            )
        pooling = asked.get("pooling")
        if pooling is not None:
            self._check_pooling(pooling, asked)
        max_tokens = self._max_tokens(len(tokens), asked.get("max_tokens") if pooling is None else 0)
        if sampling.min_tokens > max_tokens:
            raise InvalidRequest(
                f"min_tokens is {describe(sampling.min_tokens)}, and there may be {max_tokens}", "min_tokens"
            )
        ends = () if sampling.ignore_eos else self.loaded.generation.eos_ids
        lora = asked.get("lora")
        namespace = namespace_of(self.loaded, asked.get("namespace", ""), lora)
        return Request(
            prompt=tokens,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            end_tokens=frozenset((*ends, *sampling.stop_token_ids)),
            namespace=namespace,
            shared=self.shared.segments(tokens, namespace, lora),
            lora=lora,
            priority=asked.get("priority", 0),
            next_use=NextUse[asked.get("next_use", "unknown").upper()],
            prompt_logprobs=prompt_logprobs,
            scored_from=scored_from,
            finish_in_time=asked.get("finish_in_time", False),
            pooling=pooling,
            drafts=asked.get("drafts", True),
            ttft=None if ttft_ms is None else ttft_ms / 1000,
            marks_at=(*marks_at, len(tokens)) if max_tokens == 0 else tuple(marks_at),  # computed to be gone on with
        )

    def _check_pooling(self, pooling: Pooling, asked: RequestOptions) -> None:
        """Raises InvalidRequest for what makes no sense beside it."""
        for token in pooling.tokens:
            self._check_token(token, "pooling")
        if (pooling.kind == "tokens") != bool(pooling.tokens):
            raise InvalidRequest("pooling needs tokens for kind 'tokens', and for no other", "pooling")
        for name in ("prompt_logprobs", "grammar", "max_tokens"):
            if asked.get(name):
                raise InvalidRequest(f"{name} is for completions, and pooling for what has none: leave one out", name)

    def tokens(self, prompt: Prompt) -> npt.NDArray[np.int32]:
        """The prompt's tokens, which all are the model's. Raises InvalidRequest."""
        tokens = token_ids(self.loaded.tokenizer.encode_prompt(prompt) if isinstance(prompt, str) else prompt)
        if tokens.size == 0:
            raise InvalidRequest(
                "the prompt is empty and this model has no token that begins a text; give some", "prompt"
            )
        self._check_token(int(tokens.min()), "prompt")
        self._check_token(int(tokens.max()), "prompt")
        return tokens.astype(np.int32)

    def _check_token(self, token: int, param: str) -> None:
        size = self.loaded.tokenizer.vocab_size
        if not 0 <= token < size:
            raise InvalidRequest(f"{param}: token {describe(token)} is not among the model's {size} tokens", param)

    def room(self, prompt_len: int) -> int:
        """Tokens that can follow a prompt; less than one if the prompt itself does not fit."""
        return min(self.context_length, self.pool_tokens) - prompt_len

    def _max_tokens(self, prompt_len: int, asked: int | None) -> int:
        limit = min(self.context_length, self.pool_tokens)
        if prompt_len >= limit:
            pool = " or raise kv_tokens, for the KV pool has no more" if limit < self.context_length else ""
            raise PromptTooLong.beyond(limit, f"the prompt has {prompt_len}: shorten it{pool}", "prompt")
        room = self.room(prompt_len)
        if asked is None:
            return min(DEFAULT_MAX_TOKENS, room)
        if asked < 0:
            raise InvalidRequest(f"max_tokens must be 0 or more; it is {describe(asked)}", "max_tokens")
        if asked > room:
            told = f"the prompt has {prompt_len}, which leaves room for {room}, and max_tokens is {describe(asked)}"
            raise PromptTooLong.beyond(limit, told, "max_tokens")
        return asked


def with_defaults(options: RequestOptions, recommended: RequestOptions) -> RequestOptions:
    """The options, and what is recommended for those that are not given; a whole Sampling leaves nothing open."""
    return options if "sampling" in options else {**recommended, **options}


SAMPLING_FIELDS = frozenset(field.name for field in fields(Sampling))


class CheckedOptions(NamedTuple):
    """Options whose values are what their types say, and their Sampling."""

    options: RequestOptions
    sampling: Sampling


def checked_options(options: RequestOptions) -> CheckedOptions:
    """Raises InvalidRequest, whose `param` is the option's name, for an unknown name, another type, a wrong range."""
    kinds = _kinds()
    if unknown := set(options) - set(kinds):
        name = min(unknown)
        raise InvalidRequest(f"there is no option {name!r}; there are {sorted(kinds)}", name)
    given: dict[str, Any] = dict(options)
    of_sampling = {name: given.pop(name) for name in SAMPLING_FIELDS & set(given)}
    grammar = given.pop("grammar", None)
    if grammar is not None:
        check_grammar(grammar)
    read = {name: checked(value, kinds[name], name) for name, value in given.items()}
    if "sampling" not in read:
        sampling = Sampling(**of_sampling)
    elif of_sampling:
        raise InvalidRequest(f"give either sampling or its fields by name, not both: {sorted(of_sampling)}", "sampling")
    else:
        sampling = read["sampling"]
    return CheckedOptions(cast(RequestOptions, {**read, "grammar": grammar}), sampling)


@lru_cache(maxsize=1)
def _kinds() -> dict[str, Any]:
    return get_type_hints(RequestOptions)


def check_grammar(spec: object) -> None:
    """Raises InvalidRequest for what is no grammar: a text, a schema, a type."""
    try:
        is_one = not isinstance(spec, type) and callable(getattr(spec, "grammar", None))
    except Exception:  # whatever an object of the caller's raises
        is_one = False
    if not is_one:
        raise InvalidRequest(
            f"grammar must be one of stemma.fsm's, such as Regex(...) or JSONSchema(...); it is {describe(spec)}",
            "grammar",
        )
    try:
        hash(spec)
    except Exception as error:
        raise InvalidRequest(
            f"grammar must be hashable: equal ones are compiled once; it is {describe(spec)}", "grammar"
        ) from error


def token_ids(prompt: object) -> npt.NDArray[Any]:
    """A prompt that is no text as an array of whole numbers, perhaps none. Raises InvalidRequest."""
    try:
        tokens = np.asarray(prompt)
        has_truths = isinstance(prompt, list | tuple) and not {bool, np.bool_}.isdisjoint(map(type, prompt))
    except Exception as error:  # lists of unequal lengths, or whatever an object of the caller's raises
        raise _no_prompt(prompt) from error
    if tokens.ndim != 1 or has_truths or (tokens.size and not np.issubdtype(tokens.dtype, np.integer)):
        raise _no_prompt(prompt)
    return tokens


def _no_prompt(prompt: object) -> InvalidRequest:
    return InvalidRequest(f"a prompt is text or a list of token ids; this one is {describe(prompt)}", "prompt")


class Prompts(NamedTuple):
    """What `generate` was given: one prompt, or a list of them."""

    prompts: list[Any]
    is_one: bool


def split_prompts(prompt: object) -> Prompts:
    """A list is several prompts if it begins with a text or a list; what is no prompt at all is found out later."""
    if isinstance(prompt, np.ndarray):
        return Prompts(list(prompt), is_one=False) if prompt.ndim == 2 else Prompts([prompt], is_one=True)
    if isinstance(prompt, str | bytes) or not isinstance(prompt, Sequence):
        return Prompts([prompt], is_one=True)
    if len(prompt) and not isinstance(prompt[0], str | Sequence | np.ndarray):
        return Prompts([prompt], is_one=True)
    return Prompts(list(prompt), is_one=False)
