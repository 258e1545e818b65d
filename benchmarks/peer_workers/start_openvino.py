"""From nothing to OpenVINO GenAI's first token, then it ends. Arguments: the model's file, perhaps a JSON schema."""

from __future__ import annotations

import json
import sys
import time

started = time.perf_counter()

import openvino_genai as genai  # noqa: E402  # what is measured begins here

imported = time.perf_counter()
scheduler = genai.SchedulerConfig()
scheduler.cache_size = 1
options = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "bf16"}
pipeline = genai.ContinuousBatchingPipeline(sys.argv[1], scheduler, "CPU", options)
ready = time.perf_counter()
config = genai.GenerationConfig()
config.max_new_tokens, config.do_sample = 1, False
if len(sys.argv) > 2:
    config.structured_output_config = genai.StructuredOutputConfig(json_schema=sys.argv[2])
pipeline.generate(["A person:"], [config])
done = time.perf_counter()
print(json.dumps({"import": imported - started, "ready": ready - started, "token": done - started}), flush=True)
