"""OpenVINO GenAI's continuous batching with prefix caching behind the workers' protocol. Arguments: the model's file,
whose storage type OpenVINO keeps (Q8_0 is its int8); it computes in bfloat16, or in float32 where oneDNN is held to
instructions that have none: it would say that it can, and raise an error."""

from __future__ import annotations

import itertools
import json
import os
import sys
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from protocol import Request, serve

scheduler = genai.SchedulerConfig()
scheduler.cache_size = 4
scheduler.enable_prefix_caching = True
scheduler.max_num_batched_tokens = 1024
precision = "f32" if os.environ.get("ONEDNN_MAX_CPU_ISA") else "bf16"
options = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": precision}
pipeline = genai.ContinuousBatchingPipeline(sys.argv[1], scheduler, "CPU", options)
tokenizer = pipeline.get_tokenizer()
numbers = itertools.count()


def compact(schema: dict[str, Any]) -> str:
    """The schema's JSON without white space: left free to, the model fills its tokens with blanks."""
    if "enum" in schema:
        return "(" + "|".join(json.dumps(value) for value in schema["enum"]) + ")"
    kind = schema["type"]
    if kind == "object":
        fields = [f'"{name}":{compact(value)}' for name, value in schema["properties"].items()]
        return r"\{" + ",".join(fields) + r"\}"
    if kind == "array":
        item, first, last = compact(schema["items"]), schema["minItems"], schema["maxItems"]
        return rf"\[{item}(,{item}){{{first - 1},{last - 1}}}\]"
    if kind == "string":
        return rf'"[^"\\\x00-\x1f]{{0,{schema["maxLength"]}}}"'
    return {"integer": "([0-9]|[1-9][0-9]|1[01][0-9]|120)", "boolean": "(true|false)"}[kind]


def run(requests: list[Request], prompts: list[list[int]]) -> list[Any]:
    handles = []
    for request, prompt in zip(requests, prompts, strict=True):
        config = genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = request["max"], False, "schema" not in request
        if "schema" in request:
            config.structured_output_config = genai.StructuredOutputConfig(regex=compact(request["schema"]))
            ids = tokenizer.encode(request["text"]).input_ids
        else:
            ids = ov.Tensor(np.array([prompt], dtype=np.int64))
        handles.append(pipeline.add_request(next(numbers), ids, config))
    while pipeline.has_non_finished_requests():
        pipeline.step()
    tokens = [list(handle.read_all()[0].generated_ids) for handle in handles]
    return [tokenizer.decode(t) if "schema" in r else t for r, t in zip(requests, tokens, strict=True)]


serve(run)
