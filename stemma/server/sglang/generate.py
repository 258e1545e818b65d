"""SGLang's native POST /generate: what its frontend language and its gateway speak."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from starlette.responses import Response

from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.engine import Completion, Delta, Generation
from stemma.server.generation.answering import reply
from stemma.server.generation.generations import constrain, outputs, start
from stemma.server.generation.options import sampling_options
from stemma.server.generation.reporting import finite, new_id
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.outputs.constraints import OutputConstraint, schema_constraint, text_constraint
from stemma.server.sglang.wire import GenerateRequest, NativeSampling
from stemma.server.wire.common import GenerationRequest, TokenId

NATIVE_MAX_TOKENS = 128


async def generate(context: RequestContext[Service, GenerateRequest]) -> Response:
    """Continue texts."""
    body, service = context.body, context.service
    sampling = body.sampling_params or NativeSampling()
    options = sampling_options(_as_request(body, sampling), context.tenant, service)
    await constrain(context, options, _constraint(sampling))
    prompts = await service.work(prompts_of, service, body)
    answer = GenerateAnswer(service, body, prompts, sampling.n or 1, sampling.max_new_tokens == 0)
    if body.return_logprob:
        options["logprobs"] = body.top_logprobs_num or 0
        if answer.logprob_start >= 0:
            options["prompt_logprobs"] = body.top_logprobs_num or 0
            options["scored_from"] = answer.scored_from
    generations = start(context, prompts, answer.n, sampling.max_new_tokens, NATIVE_MAX_TOKENS, options)
    return await reply(context, answer, generations)


def _is_one(ids: list[Any] | None) -> bool:
    return ids is not None and not isinstance(ids[0], list)


def _as_request(body: GenerateRequest, sampling: NativeSampling) -> GenerationRequest:
    """The sampling in the names of OpenAI's requests."""
    return GenerationRequest(
        model=body.lora_path,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        repetition_penalty=sampling.repetition_penalty,
        seed=sampling.sampling_seed,
        stop=sampling.stop,
        stop_token_ids=sampling.stop_token_ids,
        logit_bias=sampling.logit_bias,
        ignore_eos=sampling.ignore_eos,
        min_tokens=sampling.min_new_tokens,
        include_stop_str_in_output=sampling.no_stop_trim,
        skip_special_tokens=sampling.skip_special_tokens,
        cache_salt=body.extra_key,
        priority=body.priority,
        ttft_ms=body.ttft_ms,
        next_use=body.next_use,
        drafts=body.drafts,
    )


def _constraint(sampling: NativeSampling) -> OutputConstraint | None:
    given = [name for name in ("regex", "ebnf", "json_schema") if getattr(sampling, name) is not None]
    if len(given) > 1:
        raise bad_request("give one of regex, ebnf and json_schema", f"sampling_params.{given[1]}")
    if sampling.json_schema is not None:
        return schema_constraint(sampling.json_schema, "sampling_params.json_schema")
    return text_constraint(GenerationRequest(regex=sampling.regex, ebnf=sampling.ebnf))


def prompts_of(service: Service, body: GenerateRequest) -> list[list[int]]:
    """Token ids of each prompt. Special tokens that the text spells out are special: clients write templates here."""
    if (body.text is None) == (body.input_ids is None):
        raise bad_request("give text or input_ids, one of them", "text")
    if body.input_ids is not None:
        for kind in (list[TokenId], list[list[TokenId]]):
            try:
                given = cast(list[Any], msgspec.convert(body.input_ids, kind))
            except msgspec.ValidationError:
                continue
            if given:
                return given if isinstance(given[0], list) else [given]
        raise bad_request("input_ids is a list of token ids, or a list of such lists", "input_ids")
    texts = [body.text] if isinstance(body.text, str) else body.text or []
    if not texts:
        raise bad_request("text is an empty list", "text")
    return [_encode(service, text) for text in texts]


def _encode(service: Service, text: str) -> list[int]:
    service.prompter.check_length(len(text), "text")
    return service.tokenizer.encode_trusted_prompt(text)


@dataclass(slots=True)
class GenerateAnswer:
    """Writes the answers to one request. Those to prompt p are numbers p * n to p * n + n - 1.

    is_silent: nothing is to be generated.
    """

    service: Service
    body: GenerateRequest
    prompts: Sequence[Sequence[int]]
    n: int
    is_silent: bool
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = self.body.rid or new_id("")

    @property
    def logprob_start(self) -> int:
        """Where the prompt's log-probabilities begin; -1 for none. Unless it is said: none, but where nothing is
        generated there is nothing else to ask for."""
        if self.body.logprob_start_len is None:
            return 0 if self.is_silent else -1
        return self.body.logprob_start_len

    @property
    def scored_from(self) -> int:
        """The first prompt token whose log-probability is asked for; the very first one has none."""
        return min(max(1, self.logprob_start), min(map(len, self.prompts)))

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any] | list[dict[str, Any]]:
        """All answers; the answer itself, if one was asked for."""
        reports = [self._report(index, completion) for index, completion in enumerate(completions)]
        is_one = self.n == 1 and (isinstance(self.body.text, str) or _is_one(self.body.input_ids))
        return reports[0] if is_one else reports

    def _report(self, index: int, completion: Completion) -> dict[str, Any]:
        usage = completion.usage
        scores = Scores(self, index)
        scores.add(completion.prompt_logprobs, completion.logprobs)
        meta = self._meta(index) | {
            "finish_reason": _reason(completion),
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "e2e_latency": completion.timing.total,
            **scores.report(),
        }
        return {"text": completion.text, "output_ids": completion.tokens, "meta_info": meta}

    def _meta(self, index: int) -> dict[str, Any]:
        return {"id": self.id if len(self.prompts) * self.n == 1 else f"{self.id}-{index}", "weight_version": "default"}

    async def chunks(self, generations: Sequence[Generation]) -> AsyncGenerator[dict[str, Any]]:
        """Each chunk has all of the answer so far, as SGLang's have; or what is new, as theirs too if so configured."""
        streams = [ChoiceStream(Scores(self, index)) for index in range(len(generations))]
        is_incremental = self.service.config.incremental_streaming_output
        told = [Told() for _ in generations]
        async with aclosing(outputs(generations)) as items:
            async for index, what in items:
                if isinstance(what, Delta):
                    meta = self._meta(index) | {"finish_reason": None, "prompt_tokens": len(self.prompt(index))}
                    report = streams[index].take(what, meta)
                else:
                    report = self._report(index, what)
                if is_incremental:
                    report = told[index].rest(report)
                yield report if len(generations) == 1 else report | {"index": index}

    def prompt(self, index: int) -> Sequence[int]:
        """Tokens of an answer's prompt."""
        return self.prompts[index // self.n]


class Scores:
    """The log-probabilities of one answer so far; nothing if they were not asked for."""

    def __init__(self, answer: GenerateAnswer, index: int) -> None:
        self._body = answer.body
        self._texts = answer.service.texts
        self._inputs: list[Any] = []
        self._input_tops: list[Any] = []
        self._outputs: list[Any] = []
        self._output_tops: list[Any] = []
        if answer.logprob_start == 0:  # the first token has no log-probability
            self._inputs.append(self._entry(answer.prompt(index)[0], None))
            self._input_tops.append(None)

    def add(self, prompt_logprobs: Sequence[TokenLogprob], logprobs: Sequence[TokenLogprob]) -> None:
        """More of the prompt's, and of the answer's."""
        self._inputs += [self._entry(score.token, score.logprob) for score in prompt_logprobs]
        self._input_tops += [self._tops(score) for score in prompt_logprobs]
        self._outputs += [self._entry(score.token, score.logprob) for score in logprobs]
        self._output_tops += [self._tops(score) for score in logprobs]

    def report(self) -> dict[str, Any]:
        """Fields of `meta_info`."""
        if not self._body.return_logprob:
            return {}
        report: dict[str, Any] = {
            "input_token_logprobs": self._inputs,
            "output_token_logprobs": self._outputs,
            "output_token_logprobs_length": len(self._outputs),
        }
        if self._body.top_logprobs_num:
            report |= {"input_top_logprobs": self._input_tops, "output_top_logprobs": self._output_tops}
        return report

    def _entry(self, token: int, logprob: float | None) -> tuple[float | None, int, str | None]:
        text = self._texts.text(token) if self._body.return_text_in_logprobs else None
        return (None if logprob is None else finite(logprob), token, text)

    def _tops(self, score: TokenLogprob) -> list[Any]:
        return [self._entry(token, logprob) for token, logprob in score.top]


@dataclass(slots=True)
class ChoiceStream:
    """One answer on its way: each chunk has all of it so far."""

    scores: Scores
    text: str = ""
    tokens: list[int] = field(default_factory=list)

    def take(self, delta: Delta, meta: dict[str, Any]) -> dict[str, Any]:
        """The chunk of a delta. meta: what is known of the answer besides."""
        self.text += delta.text
        self.tokens += delta.tokens
        self.scores.add(delta.prompt_logprobs, delta.logprobs)
        known = meta | {"completion_tokens": len(self.tokens), **self.scores.report()}
        return {"text": self.text, "output_ids": self.tokens, "meta_info": known}


@dataclass(slots=True)
class Told:
    """How much of one answer was told. What is said of the prompt, and all counts, are told each time."""

    text_len: int = 0
    num_tokens: int = 0

    def rest(self, report: dict[str, Any]) -> dict[str, Any]:
        """What is new in a report of all so far."""
        text, tokens, meta = report["text"], report["output_ids"], report["meta_info"]
        begin, before = self.text_len, self.num_tokens
        self.text_len, self.num_tokens = len(text), len(tokens)
        new = {name: meta[name][before:] for name in ("output_token_logprobs", "output_top_logprobs") if name in meta}
        return {"text": text[begin:], "output_ids": tokens[before:], "meta_info": {**meta, **new}}


def _reason(completion: Completion) -> dict[str, Any]:
    if completion.finish_reason == "length":
        return {"type": "length", "length": len(completion.tokens)}
    matched = completion.tokens[-1] if completion.stopped_by is None and completion.tokens else completion.stopped_by
    return {"type": completion.finish_reason, "matched": matched}
