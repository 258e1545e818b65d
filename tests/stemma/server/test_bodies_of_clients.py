"""Bodies in the shapes that programs send which cannot be run in a test: chat pages, editors, load generators."""

from __future__ import annotations

from typing import Any

import pytest

CHAT, COMPLETIONS, RESPONSES, GENERATE = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/generate"
LINES = "/api/chat"
USAGE = {"include_usage": True}
LOOK: dict[str, Any] = {
    "name": "query_knowledge_files",
    "description": "Look into the user's files.",
    "parameters": {"type": "object", "properties": {"query": {"enum": ["a", "b"]}}, "required": ["query"]},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": LOOK["name"], "arguments": '{"query": "a"}'}}
OBJECT_CALL = {"index": 0, "id": None, "function": {"name": LOOK["name"], "arguments": {"query": "a"}}}
SAMPLING = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "a chat page that streams, with sources in the prompt": (CHAT, {
        "stream": True, "stream_options": USAGE, "max_tokens": 4, "user": {"name": "Ann", "id": "1", "role": "user"},
        "messages": [{"role": "system", "content": "Use <source id=\"1\">tea</source> and cite [1]."},
                     {"role": "user", "content": [{"type": "text", "text": "What is there?"}]}],
    }),
    "a chat page that calls its tools": (CHAT, {
        "stream": True, "stream_options": USAGE, "max_tokens": 4, "metadata": {"chat_id": "1"},
        "tools": [{"type": "function", "function": LOOK}],
        "messages": [{"role": "user", "content": "Look."}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
                     {"role": "tool", "tool_call_id": "call_1", "content": "tea"}],
    }),
    "a title": (CHAT, {
        "stream": False, "max_completion_tokens": 4,
        "messages": [{"role": "user", "content": "### Task:\nA title of 3-5 words, as JSON { \"title\": \"...\" }"}],
    }),
    "an answer that goes on": (CHAT, {
        "stream": True, "max_tokens": 4, "continue_final_message": True, "add_generation_prompt": False,
        "messages": [{"role": "user", "content": "Tell."}, {"role": "assistant", "content": "Once"}],
    }),
    "a chat page over responses": (RESPONSES, {
        "stream": True, "max_output_tokens": 4, "instructions": "Be brief.", "tool_choice": "auto",
        "tools": [{"type": "function", **LOOK, "strict": False}],
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look."}]},
                  {"type": "function_call", "call_id": "call_1", "name": LOOK["name"], "arguments": "{}"},
                  {"type": "function_call_output", "call_id": "call_1", "output": "tea"}],
    }),
    "a chat page with all settings": (CHAT, {
        "stream": True, "max_tokens": 4, "user": "66f", **SAMPLING, "messages": [{"role": "user", "content": "hi"}],
    }),
    "a chat page over Ollama's chat, with all settings": (LINES, {
        "stream": True, "keep_alive": "5m", "metadata": {"chat_id": "1", "features": {"memory": False}}, "system": "x",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "options": {"num_predict": 4, "num_ctx": 2048, "num_keep": 24, "num_batch": 512, "num_gpu": 99, "num_thread": 2,
                    "use_mmap": True, "use_mlock": False, "seed": 1, "top_k": 40, "top_p": 0.9, "min_p": 0.0,
                    "temperature": 0.8, "repeat_penalty": 1.1, "repeat_last_n": 64, "presence_penalty": 0.0,
                    "frequency_penalty": 0.0, "mirostat": 0, "mirostat_eta": 0.1, "mirostat_tau": 5.0, "stop": ["END"]},
    }),
    "a chat page that calls its tools over Ollama's chat": (LINES, {
        "stream": True, "options": {"num_predict": 4, "stop": None}, "tools": [{"type": "function", "function": LOOK}],
        "messages": [{"role": "user", "content": "Look."},
                     {"role": "assistant", "thinking": "Hm.", "content": "", "tool_calls": [OBJECT_CALL]},
                     {"role": "tool", "content": "tea", "tool_call_id": "call_1"}, {"role": "user"}],
    }),
    "a title over Ollama's chat": (LINES, {
        "stream": False, "options": {"num_predict": 40}, "messages": [{"role": "user", "content": "A title, as JSON"}],
        "format": {"type": "object", "properties": {"title": {"enum": ["tea"]}}, "required": ["title"]},
    }),
    "a model's end, as a chat page wants it": ("/api/generate", {"stream": False, "keep_alive": 0, "prompt": ""}),
    "a chat page's vectors": ("/api/embed", {"stream": False, "input": ["a", "b"], "prompt": "a\nb", "options": {}}),
    "a chat page's older vectors": ("/api/embeddings", {"stream": False, "input": ["a"], "prompt": "a"}),
    "an editor's agent": (CHAT, {
        "stream": True, "stream_options": USAGE, "temperature": 0, "max_tokens": 4, "parallel_tool_calls": False,
        "messages": [{"role": "system", "content": "You edit."}, {"role": "user", "content": [
            {"type": "text", "text": "<task>edit</task>"}, {"type": "text", "text": "# Files", "cache_control":
             {"type": "ephemeral"}}]}],
        "tools": [{"type": "function", "function": {**LOOK, "strict": False}}], "tool_choice": "auto",
    }),
    "an editor's completion": (COMPLETIONS, {
        "prompt": "def add(a, b):\n    return", "max_tokens": 4, "temperature": 0.01, "stream": True,
        "stop": ["\n\n", "/src/", "#- coding: utf-8", "```"], "suffix": "",
    }),
    "vLLM's load over completions": (COMPLETIONS, {
        "prompt": "hi", "repetition_penalty": 1.0, "max_tokens": 4, "logprobs": None, "stream": True,
        "stream_options": USAGE, "temperature": 0.0, "ignore_eos": True, "min_tokens": 0,
    }),
    "vLLM's load over chats": (CHAT, {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "max_completion_tokens": 4,
        "stream": True, "stream_options": USAGE, "ignore_eos": True, "temperature": 0.0, "request_id": "bench-0",
    }),
    "SGLang's load": (GENERATE, {
        "text": "hi", "sampling_params": {"temperature": 0.0, "max_new_tokens": 4, "ignore_eos": True}, "stream": True,
        "lora_path": None, "return_logprob": False, "return_routed_experts": False, "logprob_start_len": -1,
    }),
    "SGLang's load over completions": (COMPLETIONS, {
        "prompt": "hi", "temperature": 0.0, "best_of": 1, "max_tokens": 4, "stream": True, "ignore_eos": True,
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
async def test_it_is_answered(client: Any, name: str) -> None:
    path, body = BODIES[name]
    model = {} if path == GENERATE else {"model": "tiny"}
    answer = await client.http.post(path, json={**model, **body})
    assert answer.status_code == 200, answer.text
    assert '"error":{' not in answer.text
    assert '"error":"' not in answer.text
    stream = "application/x-ndjson" if path == LINES else "text/event-stream"
    assert answer.headers["content-type"].startswith(stream if body["stream"] else "application/json")


async def test_load_generators_ask_for_these_before_and_after(client: Any) -> None:
    for path in ("/v1/models", "/metrics", "/server_info", "/get_server_info", "/health"):
        assert (await client.http.get(path)).status_code == 200
    assert (await client.http.post("/flush_cache")).status_code == 200


LONG = [{"role": "user", "content": "x" * 3000}]
VERY_LONG = [{"role": "user", "content": "x" * 300_000}]
TOO_LONG = {
    "chat": ("/v1/chat/completions", {"messages": LONG}),
    "characters": ("/v1/chat/completions", {"messages": VERY_LONG}),
    "max_tokens": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5000}),
    "completion": ("/v1/completions", {"prompt": "x" * 3000}),
    "response": ("/v1/responses", {"input": LONG}),
    "message": ("/v1/messages", {"messages": LONG, "max_tokens": 4}),
    "ollama": ("/api/chat", {"model": "stemma", "messages": LONG}),
    "embedding": ("/v1/embeddings", {"input": "x" * 3000}),
}


@pytest.mark.parametrize(("path", "body"), TOO_LONG.values(), ids=TOO_LONG)
async def test_what_is_too_long_is_told_in_words_that_clients_know(client: Any, path: str, body: Any) -> None:
    """LiteLLM (and with it aider, DSPy and OpenHands) and CrewAI look for them, and shorten the conversation."""
    response = await client.http.post(path, json=body)
    assert response.status_code == 400
    assert "this model's maximum context length is 2048 tokens" in response.text
