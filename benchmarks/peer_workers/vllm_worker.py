"""vLLM on the CPU with prefix caching behind the workers' protocol. Arguments: the model as a Hugging Face folder."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "3", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
}  # fmt: skip

from protocol import Request, serve
from vllm import LLM, SamplingParams
from vllm.sampling_params import StructuredOutputsParams


def start() -> LLM:
    return LLM(
        sys.argv[1], dtype="bfloat16", max_model_len=2304, max_num_seqs=64, enable_prefix_caching=True,
        disable_log_stats=True,
    )  # fmt: skip


def sampling(request: Request) -> SamplingParams:
    if "schema" not in request:
        return SamplingParams(temperature=0, max_tokens=request["max"], ignore_eos=True)
    form = StructuredOutputsParams(json=request["schema"], disable_any_whitespace=True)
    return SamplingParams(temperature=0, max_tokens=request["max"], structured_outputs=form)


if __name__ == "__main__":  # vLLM may start processes that import this file
    llm = start()

    def run(requests: list[Request], prompts: list[list[int]]) -> list[Any]:
        inputs = [
            request.get("text", {"prompt_token_ids": prompt}) for request, prompt in zip(requests, prompts, strict=True)
        ]
        results = llm.generate(inputs, [sampling(request) for request in requests], use_tqdm=False)
        outputs = [result.outputs[0] for result in results]
        return [o.text if "schema" in r else list(o.token_ids) for r, o in zip(requests, outputs, strict=True)]

    serve(run)
