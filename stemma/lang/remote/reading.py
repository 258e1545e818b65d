"""What a server tells that is no generation: its tree, embeddings, scores. From JSON to the values of an engine."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine.embedding import Embedding, Score
from stemma.runtime.engine.tree import TreeNode

NAMES = {"namespace": "cache_salt", "lora": "model"}
"""What the server calls these options."""

MAX_TEXTS = 256
"""Texts of one request: more are sent in several."""


def tree_of(report: Mapping[str, Any]) -> list[TreeNode]:
    """The roots of `GET /cache/tree?tokens=true`."""
    made: list[TreeNode] = []
    roots: list[TreeNode] = []
    for each in report["nodes"]:
        counts = (each["references"], each["hits"], each["idle"])
        node = TreeNode(each["tokens"], each["blocks"], *counts, namespace=each["namespace"])
        node.marks = list(each["marks"])
        made.append(node)
        (roots if each["parent"] is None else made[each["parent"]].children).append(node)
    return roots


def body_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of embeddings and scores, as the server calls them."""
    return {NAMES.get(name, name): value for name, value in options.items() if value not in (None, "")}


def parts(texts: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """As many as one request may have."""
    for start in range(0, len(texts), MAX_TEXTS):
        yield texts[start : start + MAX_TEXTS]


def embeddings_of(answer: Mapping[str, Any]) -> list[Embedding]:
    """What /v1/embeddings says in base64."""
    vectors = [np.frombuffer(base64.b64decode(each["embedding"]), dtype="<f4") for each in answer["data"]]
    return [Embedding(vector, usage) for vector, usage in zip(vectors, _usages(answer), strict=True)]


def scores_of(answer: Mapping[str, Any]) -> list[Score]:
    """What /v1/score says."""
    return [Score(each["score"], usage) for each, usage in zip(answer["data"], _usages(answer), strict=True)]


def _usages(answer: Mapping[str, Any]) -> list[Usage]:
    return [Usage(**each) for each in answer["usage"]["stemma"]["texts"]]
