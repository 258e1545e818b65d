"""SGLang's frontend language, its programs run on our /generate: gen, select, fork, regex, stream, run_batch."""

from __future__ import annotations

import sys

import sglang as sgl
from sglang.lang.chat_template import get_chat_template

url, key, model = sys.argv[1:4]
backend = sgl.RuntimeEndpoint(url, api_key=key, chat_template_name="chatml")
assert backend.get_model_name() == model
assert backend.get_server_info()["tp_size"] == 1
sgl.set_default_backend(backend)
sgl.flush_cache(backend)
assert get_chat_template("chatml") is backend.get_chat_template()


@sgl.function
def interview(s, place):
    s += sgl.system("You are terse.")
    s += sgl.user(f"What is the capital of {place}?")
    s += sgl.assistant(sgl.gen("answer", max_tokens=16, temperature=0, stop="."))
    s += sgl.user("Is it large?")
    s += sgl.assistant(sgl.gen("size", choices=["yes", "no"]))


@sgl.function
def judge(s, essay):
    s += sgl.system("You judge essays.") + sgl.user("Essay: " + essay)
    forks = s.fork(3)
    for number, branch in enumerate(forks):
        branch += sgl.user(f"Judge aspect {number}.")
        branch += sgl.assistant(sgl.gen("score", max_tokens=8, regex=r"[0-9]/10"))
    forks.join()
    s += sgl.user("Scores: " + ", ".join(branch["score"] for branch in forks))
    s += sgl.assistant("Summary: " + sgl.gen("summary", max_tokens=12, temperature=0.7, top_p=0.9, top_k=50))


@sgl.function
def typed(s):
    s += "A number: " + sgl.gen("number", max_tokens=8, dtype=int) + " and a truth: "
    s += sgl.gen("truth", max_tokens=8, dtype=bool) + sgl.gen_int("more", max_tokens=4)


@sgl.function
def schema(s):
    s += "JSON: " + sgl.gen("value", max_tokens=40, json_schema='{"enum": [{"a": 1}, {"b": 2}]}')


@sgl.function
def scored(s):
    s += "The capital of France is"
    s += sgl.gen(
        "city", max_tokens=4, temperature=0, return_logprob=True, top_logprobs_num=2, logprob_start_len=0,
        return_text_in_logprobs=True,
    )  # fmt: skip


@sgl.function
def selected(s, method):
    s += "The sky is" + sgl.select("colour", [" blue", " green", " loud"], choices_method=method)


state = interview.run(place="France")
assert "Paris" in state["answer"], state["answer"]
assert state["size"] in ("yes", "no")
assert state.get_meta_info("answer")["finish_reason"]["type"] in ("stop", "length")
cached = interview.run(place="France").get_meta_info("answer")["cached_tokens"]
assert cached > 20, cached

state = judge.run(essay="Bees matter.")
assert state["summary"]

state = typed.run()
int(state["number"])
assert state["truth"] in ("True", "False"), state["truth"]
assert schema.run()["value"] in ('{"a":1}', '{"b":2}', '{"a": 1}', '{"b": 2}'), schema.run()["value"]

meta = scored.run().get_meta_info("city")
assert meta["input_token_logprobs"][0][0] is None
assert len(meta["output_token_logprobs"]) == meta["completion_tokens"]
assert all(len(top) == 2 for top in meta["output_top_logprobs"])
assert meta["output_token_logprobs"][0][2] == " Paris", meta["output_token_logprobs"]

for method in (sgl.token_length_normalized, sgl.greedy_token_selection, sgl.unconditional_likelihood_normalized):
    state = selected.run(method=method)
    assert state["colour"] in (" blue", " green", " loud")
    assert len(state.get_meta_info("colour")["input_token_logprobs"]) == 3
assert selected.run(method=sgl.token_length_normalized)["colour"] == " blue"

state = interview.run(place="France", stream=True)
streamed = "".join(state.text_iter())
assert "Paris" in streamed, streamed
answer = "".join(interview.run(place="France", stream=True).text_iter("answer"))
assert "Paris" in answer
assert answer in streamed

states = interview.run_batch([{"place": place} for place in ("France", "Italy", "Spain", "Japan")], num_threads=4)
assert all(state["answer"] and state["size"] in ("yes", "no") for state in states)
assert "Paris" in states[0]["answer"]
assert all(state.error() is None for state in states)
print("ok")
