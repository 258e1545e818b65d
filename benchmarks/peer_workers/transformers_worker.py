"""transformers behind the workers' protocol: one padded batch for each wave. Arguments: the model as a Hugging Face
folder. It has no prefix cache; JSON goes through xgrammar's logits processor."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import xgrammar
from protocol import Request, serve
from transformers import AutoModelForCausalLM, AutoTokenizer
from xgrammar.contrib.hf import LogitsProcessor

torch.set_num_threads(2)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], padding_side="left")
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).eval()
vocabulary = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=model.config.vocab_size)
compiler = xgrammar.GrammarCompiler(vocabulary)


def run(requests: list[Request], prompts: list[list[int]]) -> list[Any]:
    options: dict[str, Any] = {"max_new_tokens": requests[0]["max"], "do_sample": False}
    if "schema" in requests[0]:
        prompts = [tokenizer(request["text"]).input_ids for request in requests]
        form = compiler.compile_json_schema(json.dumps(requests[0]["schema"]), any_whitespace=False)
        options["logits_processor"] = [LogitsProcessor(form)]
    else:
        options["min_new_tokens"] = requests[0]["max"]
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    with torch.inference_mode():
        whole = model.generate(**batch, **options)
    outputs = whole[:, batch["input_ids"].shape[1] :]
    if "schema" in requests[0]:
        return list(tokenizer.batch_decode(outputs, skip_special_tokens=True))
    return [output.tolist() for output in outputs]


serve(run)
