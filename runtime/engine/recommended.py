"""The sampling that a model's authors recommend, as options of requests that do not say how to sample."""

from __future__ import annotations

from dataclasses import asdict
from typing import cast

from stemma.runtime.core.config import GenerationConfig
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.engine.options import RequestOptions
from stemma.runtime.errors import InvalidRequest, ModelFileError
from stemma.runtime.model import GenerationDefaults

GREEDY = 0.0


def recommended(defaults: GenerationDefaults, use: GenerationConfig) -> RequestOptions:
    """What counts where a request says nothing: none of it with `use` "none".

    Who recommends not to sample recommends the likeliest tokens. Raises ModelFileError for values that cannot be used.
    """
    if use == "none":
        return {}
    found = {name: value for name, value in asdict(defaults).items() if name in SAMPLING and value is not None}
    if found.get("top_k") == -1:
        found["top_k"] = 0
    if defaults.do_sample is False:
        found["temperature"] = GREEDY
    try:
        Sampling(**found)
    except InvalidRequest as error:
        raise ModelFileError(
            f"the sampling that the model's files recommend cannot be used: {error}; correct it, or leave it out with "
            'generation_config="none"'
        ) from error
    return cast(RequestOptions, found)


SAMPLING = frozenset(("temperature", "top_k", "top_p", "min_p", "repetition_penalty"))
"""Of the recommendations, those that are options of a request."""
