"""What clients of OpenAI, vLLM, SGLang and llama.cpp can send and Stemma has no field for: by whose it is, and why so.

`tests/contract/client_fields.py` reads the newest clients' types and says which of their fields are neither here nor
among the structs' own.
"""

from __future__ import annotations

from collections.abc import Mapping

from stemma.server.wire.fields import Only, Rule, Taken

NOT_KEPT = "responses and chats are kept, nothing else"
NO_TIERS = "there is one tier of service"
ONE_ENGINE = "the engine that has the request answers it"
NO_MEDIA = "there is only text"
TEXT_ONLY = f"{NO_MEDIA}: send what it says as text"
OWN_FORMS = "say it by response_format, regex or grammar"
NO_CODE = "the server runs no code of its callers"

ACCOUNTING: Mapping[str, Rule] = {
    "user": Taken("callers are told apart by their keys"),
    "metadata": Taken(NOT_KEPT),
    "store": Taken(NOT_KEPT),
    "service_tier": Taken(NO_TIERS),
    "safety_identifier": Taken("callers are told apart by their keys"),
    "prompt_cache_key": Taken("what is shared is found by its tokens"),
    "prompt_cache_retention": Taken("what was computed is kept as long as there is room"),
    "prompt_cache_options": Taken("what was computed is kept as long as there is room"),
}
"""OpenAI's fields that only inform."""

OPENAI_ANSWERS: Mapping[str, Rule] = {
    "moderation": Only((), "moderate texts before they are sent"),
    "verbosity": Only(("medium",), "ask for a shorter or longer answer in the messages"),
}

OPENAI_CHAT: Mapping[str, Rule] = {
    **ACCOUNTING,
    **OPENAI_ANSWERS,
    "audio": Only((), NO_MEDIA),
    "modalities": Only((["text"],), NO_MEDIA),
    "prediction": Taken("a guess changes no text"),
    "web_search_options": Only((), "offer a tool that searches"),
}

BEAMS: Mapping[str, Rule] = {
    "use_beam_search": Only((False,), "ask for several answers with n"),
    "length_penalty": Only((1,), "it is for beams, which are not searched"),
    "early_stopping": Taken("it is for beams, which are not searched"),
}

VLLM: Mapping[str, Rule] = {
    **BEAMS,
    "allowed_token_ids": Only((), f"{OWN_FORMS}, or use logit_bias"),
    "bad_words": Only(([],), "use logit_bias, or a form that has none of them"),
    "logits_processors": Only(([],), NO_CODE),
    "vllm_xargs": Only(({},), NO_CODE),
    "return_tokens_as_token_ids": Only((False,), "use return_token_ids"),
    "spaces_between_special_tokens": Taken("a tokenizer's own spaces are in its tokens"),
    "request_id": Taken("an answer has an id of its own"),
    "kv_transfer_params": Taken("where KV comes from changes no text"),
    "mm_processor_kwargs": Taken(NO_MEDIA),
    "media_io_kwargs": Taken(NO_MEDIA),
    "guided_decoding_backend": Taken("one engine makes all forms"),
    "guided_json_object": Only((False,), OWN_FORMS),
    "guided_whitespace_pattern": Only((), "JSON is written compactly"),
    "structural_tag": Only((), OWN_FORMS),
    "repetition_detection": Only((), "use repetition_penalty"),
    "thinking_token_budget": Only((), "say how much to think by reasoning_effort"),
    "return_routed_experts": Only((False,), "which experts were asked is not told"),
    "routed_experts_prompt_start": Taken("it belongs to return_routed_experts"),
    "ec_transfer_params": Taken("where KV comes from changes no text"),
    "logprob_token_ids": Only((), "use top_logprobs"),
    "mm_payload": Only((), NO_MEDIA),
    "return_mm_kwargs": Only((False,), NO_MEDIA),
    "return_prompt_text": Only((False,), "use return_token_ids"),
    "return_token_offsets": Only((False,), "use return_token_ids"),
    "return_weight_versions": Taken("system_fingerprint tells the build"),
    "stream_interval": Taken("events are sent as the reader takes them"),
    "truncation_side": Only(("left",), "truncate_prompt_tokens keeps the last tokens"),
    "watermarking": Only(({},), "texts bear no marks"),
}

VLLM_CHAT: Mapping[str, Rule] = {
    "add_special_tokens": Only((False,), "the chat template writes them"),
    "best_of": Only((1,), "ask for several answers with n"),
    "chat_template": Only((), "the model's own is used"),
    "documents": Only(([],), "put them into a message"),
    "include_reasoning": Only((True,), "leave reasoning_content unread"),
    "prompt_logprobs": Only((), "they are at /v1/completions"),
    "chat_template_content_format": Taken("templates are given text"),
}

VLLM_FORMS: Mapping[str, Rule] = {
    "disable_fallback": Taken("one engine makes all forms"),
    "disable_any_whitespace": Taken("JSON is written compactly"),
    "disable_additional_properties": Taken("objects have the properties that they declare"),
    "whitespace_pattern": Only((), "JSON is written compactly"),
    "structural_tag": Only((), "use the other forms"),
}

SGLANG: Mapping[str, Rule] = {
    "rid": Taken("an answer has an id of its own"),
    "bootstrap_host": Taken(ONE_ENGINE),
    "bootstrap_port": Taken(ONE_ENGINE),
    "bootstrap_room": Taken(ONE_ENGINE),
    "bootstrap_pair_key": Taken(ONE_ENGINE),
    "decode_tp_size": Taken(ONE_ENGINE),
    "disagg_prefill_dp_rank": Taken(ONE_ENGINE),
    "data_parallel_rank": Taken(ONE_ENGINE),
    "data_parallel_rank_decode": Taken(ONE_ENGINE),
    "routed_dp_rank": Taken(ONE_ENGINE),
    "routing_key": Taken(ONE_ENGINE),
    "conversation_id": Taken("what is shared is found by its tokens"),
    "session_params": Only(({},), "send the whole text; what is shared is found"),
    "custom_logit_processor": Only((), NO_CODE),
    "custom_params": Only(({},), NO_CODE),
    "custom_labels": Taken("metrics have no labels of callers"),
    "return_hidden_states": Only((False,), "use /v1/embeddings"),
    "return_cached_tokens_details": Taken("usage tells them always"),
    "return_prompt_token_ids": Only((False,), "use return_token_ids"),
    "return_meta_info": Taken("it is told in usage"),
    "log_metrics": Taken("metrics count all requests"),
    "no_logs": Taken("texts are never logged"),
    "received_time": Taken("the server has a clock of its own"),
    "validation_time": Taken("the server has a clock of its own"),
    "image_max_dynamic_patch": Taken(NO_MEDIA),
    "video_max_dynamic_patch": Taken(NO_MEDIA),
    "max_dynamic_patch": Taken(NO_MEDIA),
    "min_dynamic_patch": Taken(NO_MEDIA),
    "use_audio_in_video": Taken(NO_MEDIA),
    "images_config": Taken(NO_MEDIA),
    "video_config": Taken(NO_MEDIA),
    "session_id": Taken("what is shared is found by its tokens"),
    "lora_path": Only((), "choose an adapter by model"),
    "return_flat_raw_output_top_logprobs": Only((False,), "log-probabilities have their usual form"),
    "return_flat_raw_top_logprobs": Only((False,), "log-probabilities have their usual form"),
    "return_flat_raw_top_logprobs_b64": Only((False,), "log-probabilities have their usual form"),
    "return_input_ids_in_sglext": Only((False,), "use return_token_ids"),
    "return_output_ids_in_sglext": Only((False,), "use return_token_ids"),
    "return_sampling_mask": Only((False,), "use logprobs"),
    "return_spec_tokens_details": Taken("usage tells what was jumped over"),
    "routed_experts_start_len": Taken("it belongs to return_routed_experts"),
    "sampling_logprobs_mode": Only((), "log-probabilities are the model's own"),
    "watermark": Only((False,), "texts bear no marks"),
}

SGLANG_TEXTS: Mapping[str, Rule] = {
    "stop_regex": Only(([], ""), "use stop, or a form that ends there"),
    "extra_key": Only((), "say it by cache_salt"),
    "no_stop_trim": Only((False,), "say it by include_stop_str_in_output"),
}

SGLANG_CHAT: Mapping[str, Rule] = {
    "thinking": Only((), "say it by reasoning_effort"),
    "separate_reasoning": Only((True,), "thoughts are reasoning_content"),
    "stream_reasoning": Taken("thoughts are streamed as they come"),
    "reasoning": Only(({},), "say it by reasoning_effort"),
    "task": Taken("there is one template for all"),
    "latest_reminder": Only((), "put it into a message"),
    "input_ids": Only((), "say it by prompt_token_ids"),
    "custom_logit_bias": Only((), "say it by logit_bias"),
}

SGLANG_GENERATE: Mapping[str, Rule] = {
    "image_data": Only(([],), NO_MEDIA),
    "video_data": Only(([],), NO_MEDIA),
    "audio_data": Only(([],), NO_MEDIA),
    "modalities": Taken(NO_MEDIA),
    "input_embeds": Only((), "give text or input_ids"),
    "positional_embed_overrides": Only((), "give text or input_ids"),
    "token_ids_logprob": Only((), "use top_logprobs_num"),
    "background": Only((False,), "wait for the answer"),
    "require_reasoning": Only((False,), "write the prompt so that the model thinks"),
    "return_entropy": Only((False,), "use top_logprobs_num"),
    "return_bytes": Only((False,), "text is text"),
    "need_wait_for_mm_inputs": Taken(NO_MEDIA),
    "num_items_assigned": Taken(NO_MEDIA),
    "return_flattened_logprobs": Only((False,), "log-probabilities have their nested form"),
    "is_retracted": Taken("the engine knows what it retracts"),
    "cache_salt": Only((), "say it by extra_key"),
    "encoder_urls": Taken(NO_MEDIA),
    "external_trace_header": Taken("traces come in HTTP's headers"),
    "http_worker_ipc": Taken(ONE_ENGINE),
    "kv_hints": Taken("what is shared is found by its tokens"),
    "lora_id": Only((), "choose an adapter by lora_path"),
    "max_thinking_tokens": Only((), "use max_new_tokens"),
    "mm_content_hashes": Taken(NO_MEDIA),
    "mm_hashes": Taken(NO_MEDIA),
    "mm_processor_kwargs": Taken(NO_MEDIA),
    "multi_item_delimiter_indices": Only(([],), "send each item as a text"),
    "return_indexer_topk": Only((False,), "which tokens were looked at is not told"),
    "return_routed_experts": Only((False,), "which experts were asked is not told"),
    "token_indices_to_pool": Only((), "use /v1/embeddings"),
}

SGLANG_SAMPLING: Mapping[str, Rule] = {
    **BEAMS,
    "stop_regex": Only(([], ""), "use stop, or a form that ends there"),
    "structural_tag": Only((), "use regex, ebnf or json_schema"),
    "custom_params": Only(({},), NO_CODE),
    "spaces_between_special_tokens": Taken("a tokenizer's own spaces are in its tokens"),
    "stream_interval": Taken("events are sent as the reader takes them"),
    "beam_width": Only((1,), "ask for several answers with n"),
    "ebnf_full_assistant": Only((False,), "the grammar is of the text"),
    "watermark": Only((False,), "texts bear no marks"),
}

LLAMA_CPP: Mapping[str, Rule] = {
    "cache_prompt": Taken("what is shared is always found"),
    "n_cache_reuse": Taken("what is shared is found where it is the same, token for token"),
    "id_slot": Taken("there are no slots"),
    "timings_per_token": Taken("usage has what is known"),
    "return_progress": Taken("a stream begins with its answer"),
    "n_keep": Taken("no text is ever left out"),
    "n_discard": Taken("no text is ever left out"),
    "n_indent": Only((0,), "use a form"),
    "n_predict": Only((-1,), "say it by max_tokens"),
    "n_probs": Only((0,), "say it by logprobs"),
    "min_keep": Only((0,), "use top_k"),
    "post_sampling_probs": Only((False,), "log-probabilities are the model's own"),
    "t_max_predict_ms": Only((0, -1), "use max_tokens"),
    "response_fields": Only(([],), "answers are whole"),
    "reasoning_format": Only(("auto", "deepseek"), "thoughts are reasoning_content"),
    "reasoning_in_content": Only((False,), "thoughts are reasoning_content"),
    "thinking_forced_open": Taken("whether the prompt opens thoughts is seen in it"),
    "parse_tool_calls": Only((True,), "send no tools"),
    "json_schema": Only((), "say it by response_format"),
    "lora": Only(([],), "choose an adapter by model"),
    "image_data": Only(([],), NO_MEDIA),
}

SAMPLERS_OF_PEERS: Mapping[str, Rule] = {
    "samplers": Only((), "samplers have one order: penalties, temperature, top_k, top_p, min_p"),
    "repeat_penalty": Only((1,), "say it by repetition_penalty"),
    "repeat_last_n": Taken("it belongs to repeat_penalty"),
    "typical_p": Only((1,), "use top_p"),
    "top_n_sigma": Only((-1, 0), "use top_p"),
    "dynatemp_range": Only((0,), "use temperature"),
    "dynatemp_exponent": Taken("it belongs to dynatemp_range"),
    "mirostat": Only((0,), "use top_p"),
    "mirostat_tau": Taken("it belongs to mirostat"),
    "mirostat_eta": Taken("it belongs to mirostat"),
    "dry_multiplier": Only((0,), "use repetition_penalty"),
    "dry_base": Taken("it belongs to dry_multiplier"),
    "dry_allowed_length": Taken("it belongs to dry_multiplier"),
    "dry_penalty_last_n": Taken("it belongs to dry_multiplier"),
    "dry_sequence_breakers": Taken("it belongs to dry_multiplier"),
    "xtc_probability": Only((0,), "use top_p"),
    "xtc_threshold": Taken("it belongs to xtc_probability"),
    "top_a": Only((0,), "use min_p"),
}
"""Other ways to choose a token, with the values at which they do nothing."""

COMING_BACK: Mapping[str, Rule] = {
    "id": Taken("messages are known by their text"),
    "parsed": Taken("the text is what was said"),
    "provider_specific_fields": Taken("they are of another server"),
    "annotations": Taken("they are of another server"),
    "reasoning_details": Taken("thoughts are read from reasoning_content"),
    "thinking_blocks": Taken("thoughts are read from reasoning_content"),
    "cache_control": Taken("what was computed is kept as long as there is room"),
    "audio": Only((), NO_MEDIA),
    "function_call": Only((), "say it by tool_calls"),
    "prefix": Only((False,), "say it by continue_final_message"),
}
"""Fields of messages, most of them of answers that come back."""
