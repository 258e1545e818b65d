"""Texts to vectors, and how well documents answer a query, by any decoder: what `Engine.embed` and `Engine.score` are
made of. Says what to ask the engine and reads what comes of it; starts nothing itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict, cast, get_type_hints

import numpy as np
import numpy.typing as npt

from stemma.runtime.core.checking import checked
from stemma.runtime.core.pooling import Pooling
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine.generation import Completion
from stemma.runtime.engine.options import RequestOptions
from stemma.runtime.errors import ChatTemplateError, InvalidRequest
from stemma.runtime.model import LoadedModel

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
JUDGE = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the "
    'answer can only be "yes" or "no".'
)
ANSWERS = ("yes", "no")
QUERY_PROMPTS, DOCUMENT_PROMPTS = ("query",), ("document", "passage")


class EmbeddingOptions(TypedDict, total=False):
    """Where these are left out, it is done as the model's files say, else of the last token, scaled to length 1.

    pooling: "last", the state of the last token, or "mean", the mean of all, for which all of the text is computed.
    normalize: whether to length 1.
    dimensions: how many of the first numbers are kept (Kusupati et al. 2022).
    prompt_name: of a text among the model's files that is put before others, such as "query".
    namespace, lora, priority, ttft_ms: as of any request.
    """

    pooling: Literal["last", "mean"] | None
    normalize: bool | None
    dimensions: int | None
    prompt_name: str | None
    namespace: str
    lora: str | None
    priority: int
    ttft_ms: float | None


class ScoringOptions(TypedDict, total=False):
    """instruction: what the documents are wanted for, in a sentence. namespace, lora, priority, ttft_ms: as of any
    request."""

    instruction: str | None
    namespace: str
    lora: str | None
    priority: int
    ttft_ms: float | None


class Embedding(NamedTuple):
    """A text as a vector, (dimensions,)."""

    vector: npt.NDArray[np.float32]
    usage: Usage


class Score(NamedTuple):
    """How well a document answers a query: 0 to 1, or -1 to 1 for the angle between embeddings."""

    value: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class Embedder:
    """Makes embeddings of one model."""

    loaded: LoadedModel

    def ask(self, options: EmbeddingOptions) -> EmbeddingRequest:
        """Raises InvalidRequest for an option that is not there, of another type or out of range."""
        asked = _checked(options, EmbeddingOptions)
        said, size = self.loaded.embedding, self.loaded.config.hidden
        pooling = asked.get("pooling") or (said.pooling if said is not None else None) or "last"
        normalize = asked.get("normalize")
        if normalize is None:
            normalize = said is None or said.normalize
        dimensions, name = asked.get("dimensions"), asked.get("prompt_name")
        if dimensions is not None and not 1 <= dimensions <= size:
            raise InvalidRequest(f"dimensions must be between 1 and {size}; it is {dimensions}", "dimensions")
        prompts = {} if said is None else said.prompts
        if name is not None and name not in prompts:
            raise InvalidRequest(f"there is no prompt {name!r}; the model has {sorted(prompts)}", "prompt_name")
        before = "" if name is None else prompts[name]
        return EmbeddingRequest(self.loaded, before, normalize, dimensions, _request(asked, Pooling(pooling)))

    def first_prompt(self, names: Sequence[str]) -> str | None:
        """The first of these names that the model has a prompt of."""
        said = self.loaded.embedding
        return next((name for name in names if said is not None and name in said.prompts), None)


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """What to ask for some texts, and what comes of it.

    before: text that is put before each. request: the options of the engine's requests.
    """

    loaded: LoadedModel
    before: str
    normalize: bool
    dimensions: int | None
    request: RequestOptions

    def tokens(self, text: Any) -> Any:
        """Of a text, with what the model expects before it and behind it; token ids, and what is neither, stay."""
        if not isinstance(text, str):
            return text
        tokenizer = self.loaded.tokenizer
        return [*tokenizer.encode_prompt(self.before + text), *tokenizer.suffix_ids]

    def embedding(self, completion: Completion) -> Embedding:
        """Of a request that has ended."""
        assert completion.pooled is not None
        vector = completion.pooled[: self.dimensions]
        length = float(np.linalg.norm(vector))
        return Embedding(vector / np.float32(length) if self.normalize and length else vector, completion.usage)


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores documents by one model."""

    embedder: Embedder

    def ask(self, pairs: Sequence[tuple[str, str]], options: ScoringOptions) -> ScoringRequest:
        """pairs: a query and a document each. Raises InvalidRequest."""
        asked, loaded = _checked(options, ScoringOptions), self.embedder.loaded
        instruction = asked.pop("instruction", None)
        if loaded.embedding is None:
            judge = Judge(loaded)
            prompts = [judge.tokens(query, text, instruction) for query, text in pairs]
            return ScoringRequest(prompts, _request(asked, judge.pooling()), None, [])
        if instruction is not None:
            raise InvalidRequest("this model embeds texts and is told nothing: put it into the query", "instruction")
        for_queries, for_documents = (
            self.embedder.ask(cast(EmbeddingOptions, {**asked, "prompt_name": self.embedder.first_prompt(names)}))
            for names in (QUERY_PROMPTS, DOCUMENT_PROMPTS)
        )
        queries = list(dict.fromkeys(query for query, _ in pairs))
        prompts = [*map(for_queries.tokens, queries), *(for_documents.tokens(text) for _, text in pairs)]
        return ScoringRequest(prompts, for_queries.request, for_queries, [queries.index(query) for query, _ in pairs])


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What to ask for some pairs, and what comes of it.

    embeds: None where the model judges. queries: which prompt is the query of each pair; the documents' come last.
    """

    prompts: list[list[int]]
    request: RequestOptions
    embeds: EmbeddingRequest | None
    queries: list[int]

    def scores(self, completions: Sequence[Completion]) -> list[Score]:
        """In the order of the pairs. A query's own tokens are accounted to the first pair that has it."""
        if self.embeds is None:
            return [Score(_share_of_yes(completion), completion.usage) for completion in completions]
        made = [self.embeds.embedding(completion) for completion in completions]
        documents = made[len(made) - len(self.queries) :]
        scores: list[Score] = []
        for pair, (query, document) in enumerate(zip(self.queries, documents, strict=True)):
            usage = document.usage + made[query].usage if query not in self.queries[:pair] else document.usage
            scores.append(Score(cosine(made[query].vector, document.vector), usage))
        return scores


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks the model whether a document answers a query, in the words of Qwen3-Reranker (Zhang et al. 2025), and reads
    how much likelier yes is than no. Documents of one query share all that stands before them."""

    loaded: LoadedModel

    def tokens(self, query: str, document: str, instruction: str | None) -> list[int]:
        """The prompt behind which the answer stands. Raises InvalidRequest."""
        template = self.loaded.chat_template
        if template is None:
            raise InvalidRequest(f"{self.loaded.name} has no chat template, so it cannot be asked", "model")
        said = f"<Instruct>: {instruction or INSTRUCTION}\n\n<Query>: {query}\n\n<Document>: {document}"
        messages = [{"role": "system", "content": JUDGE}, {"role": "user", "content": said}]
        try:
            return template.encode_chat(messages, enable_thinking=False)
        except ChatTemplateError as error:
            raise InvalidRequest(str(error), "query") from error

    def pooling(self) -> Pooling:
        """What is read of a prompt: how likely the first tokens of both answers are."""
        return Pooling("tokens", tuple(self.loaded.tokenizer.encode_continuation(answer)[0] for answer in ANSWERS))


def cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Of the angle between two vectors; 0 where one has no length."""
    length = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0


def _share_of_yes(completion: Completion) -> float:
    """The probability of yes among both answers."""
    assert completion.pooled is not None
    yes, no = (float(value) for value in completion.pooled)
    return 1 / (1 + math.exp(min(no - yes, 700.0)))


def _request(asked: dict[str, Any], pooling: Pooling) -> RequestOptions:
    options = RequestOptions(pooling=pooling, namespace=asked.get("namespace", ""))
    options["priority"], options["lora"] = asked.get("priority", 0), asked.get("lora")
    options["ttft_ms"] = asked.get("ttft_ms")
    return options


def _checked(options: Any, kind: type) -> dict[str, Any]:
    """Raises InvalidRequest, whose `param` is the option's name, for an unknown name or another type."""
    kinds = get_type_hints(kind)
    if unknown := set(options) - set(kinds):
        name = min(unknown)
        raise InvalidRequest(f"there is no option {name!r}; there are {sorted(kinds)}", name)
    return {name: checked(value, kinds[name], name) for name, value in options.items()}
