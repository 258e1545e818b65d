"""What a caller can say of one request, as keyword arguments, and the core's Request made from it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from stemma.runtime.core.sampling import MAX_LOGPROBS, Sampling
from stemma.runtime.core.sequence import Request
from stemma.runtime.engine.guides import GrammarSpec
from stemma.runtime.errors import InvalidRequest, PromptTooLong
from stemma.runtime.model import LoadedModel

Prompt = str | Sequence[int] | npt.NDArray[np.int32]

DEFAULT_MAX_TOKENS = 128


class RequestOptions(TypedDict, total=False):
    """Options of one request: Sampling's fields by name (or a whole Sampling), and how the request is run.

    max_tokens: the most tokens to generate; None is 128, or what the context leaves.
    namespace: a separate root of the cache: nothing is shared between namespaces.
    priority: larger goes first. prompt_logprobs, scored_from, finish_in_time: see Request.
    grammar: how the completion must look: stemma.fsm's Regex, JSONSchema, Choices, EBNF, Lark, StructuralTags.
    """

    max_tokens: int | None
    namespace: str
    priority: int
    prompt_logprobs: int | None
    scored_from: int
    finish_in_time: bool
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
    logprobs: int | None


@dataclass(frozen=True, slots=True)
class RequestMaker:
    """Checks options against a model and its engine, and makes requests. Touches no engine state."""

    loaded: LoadedModel
    context_length: int
    pool_tokens: int

    def make(self, prompt: Prompt, options: RequestOptions) -> Request:
        """Raises InvalidRequest or PromptTooLong, whose `param` says what to change."""
        sampling = make_sampling(options)
        tokens = self._tokens(prompt)
        for name in ("logit_bias", "stop_token_ids"):
            for token in getattr(sampling, name):
                self._check_token(token, name)
        prompt_logprobs = options.get("prompt_logprobs")
        if prompt_logprobs is not None and not 0 <= prompt_logprobs <= MAX_LOGPROBS:
            raise InvalidRequest(f"prompt_logprobs must be between 0 and {MAX_LOGPROBS}", "prompt_logprobs")
        scored_from = options.get("scored_from", 1)
        if not 1 <= scored_from <= len(tokens):
            raise InvalidRequest(f"scored_from must be between 1 and the prompt's {len(tokens)} tokens", "scored_from")
        if options.get("finish_in_time") and sampling.logprobs is not None:
            raise InvalidRequest("finish_in_time forces tokens that have no logprobs; leave one out", "finish_in_time")
        ends = () if sampling.ignore_eos else self.loaded.generation.eos_ids
        return Request(
            prompt=tokens,
            max_tokens=self._max_tokens(len(tokens), options.get("max_tokens")),
            sampling=sampling,
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            end_tokens=frozenset((*ends, *sampling.stop_token_ids)),
            namespace=options.get("namespace", ""),
            priority=options.get("priority", 0),
            prompt_logprobs=prompt_logprobs,
            scored_from=scored_from,
            finish_in_time=options.get("finish_in_time", False),
        )

    def _tokens(self, prompt: Prompt) -> npt.NDArray[np.int32]:
        tokenizer = self.loaded.tokenizer
        if isinstance(prompt, str):
            prompt = tokenizer.encode_prompt(prompt)
        tokens = np.asarray(prompt)
        if tokens.size == 0:
            raise InvalidRequest(
                "the prompt is empty and this model has no token that begins a text; give some", "prompt"
            )
        if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
            raise InvalidRequest(f"a prompt is text or a list of token ids; this one is {prompt!r:.80}", "prompt")
        self._check_token(int(tokens.min()), "prompt")
        self._check_token(int(tokens.max()), "prompt")
        return tokens.astype(np.int32)

    def _check_token(self, token: int, param: str) -> None:
        size = self.loaded.tokenizer.vocab_size
        if not 0 <= token < size:
            raise InvalidRequest(f"{param}: token {token} is not among the model's {size} tokens", param)

    def room(self, prompt_len: int) -> int:
        """Tokens that can follow a prompt; less than one if the prompt itself does not fit."""
        return min(self.context_length, self.pool_tokens) - prompt_len

    def _max_tokens(self, prompt_len: int, asked: int | None) -> int:
        if self.context_length - prompt_len < 1:
            raise PromptTooLong(
                f"the prompt has {prompt_len} tokens, the context {self.context_length}: shorten the prompt", "prompt"
            )
        if prompt_len + 1 > self.pool_tokens:
            raise PromptTooLong(
                f"the prompt has {prompt_len} tokens, the KV pool {self.pool_tokens}: shorten it or raise kv_tokens",
                "prompt",
            )
        room = self.room(prompt_len)
        if asked is None:
            return min(DEFAULT_MAX_TOKENS, room)
        if asked < 0:
            raise InvalidRequest(f"max_tokens must be 0 or more; it is {asked}", "max_tokens")
        if asked > room:
            raise PromptTooLong(
                f"the prompt has {prompt_len} tokens, which leaves room for {room}; max_tokens is {asked}", "max_tokens"
            )
        return asked


SAMPLING_FIELDS = frozenset(field.name for field in fields(Sampling))


def make_sampling(options: RequestOptions) -> Sampling:
    """The Sampling that options describe. Raises InvalidRequest for a value out of range or an unknown name."""
    given = {name: value for name, value in options.items() if name in SAMPLING_FIELDS}
    unknown = set(options) - SAMPLING_FIELDS - set(RequestOptions.__annotations__)
    if unknown:
        name = min(unknown)
        raise InvalidRequest(f"there is no option {name!r}; there are {sorted(RequestOptions.__annotations__)}", name)
    if "sampling" in options:
        if given:
            raise InvalidRequest(f"give either sampling or its fields by name, not both: {sorted(given)}", "sampling")
        return options["sampling"]
    for name in ("stop", "stop_token_ids"):
        value = given.get(name, ())
        if isinstance(value, str | int):
            value = (value,)
        given[name] = tuple(value)  # type: ignore[arg-type]
    return Sampling(**given)  # type: ignore[arg-type]
