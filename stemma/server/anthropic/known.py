"""What clients of Anthropic can send and Stemma has no field for, and why so."""

from __future__ import annotations

from collections.abc import Mapping

from stemma.server.wire.fields import Only, Rule, Taken
from stemma.server.wire.known import NO_TIERS, NOT_KEPT, ONE_ENGINE

ONE_MODEL = "the model that is asked answers"
NO_CITATIONS = "ask for quotations in the messages"

MESSAGES: Mapping[str, Rule] = {
    "betas": Taken("what is supported needs no header"),
    "billing_policy": Taken("nothing is billed"),
    "compaction": Only((), "ask for a summary in the messages"),
    "container": Only((), "there are no containers: offer a tool of your own that runs code"),
    "context_management": Taken("the model sees all that is sent"),
    "diagnostics": Taken("/cache/explain says why a prompt is not cached"),
    "fallback_credit_token": Taken("nothing is billed"),
    "fallbacks": Taken(ONE_MODEL),
    "inference_geo": Taken(ONE_ENGINE),
    "mcp_servers": Only(([],), "call the servers yourself and offer what they have as tools"),
    "metadata": Taken(NOT_KEPT),
    "speed": Taken(NO_TIERS),
    "thread": Only((), "conversations are not kept: send all messages"),
    "user_profile_id": Taken("callers are told apart by their keys"),
    "workspace_id": Taken("callers are told apart by their keys"),
}

TURN: Mapping[str, Rule] = {
    "clear_at": Only(("never",), "leave the message out when it is no longer to be seen"),
    "output_config": Only(({},), "say it for the whole request"),
    "id": Taken("messages are known by their text"),
}

BLOCK: Mapping[str, Rule] = {
    "caller": Taken("calls are known by their ids"),
    "toolset_name": Taken("tools are known by their names"),
}
"""Fields of blocks of answers that come back."""

THINKING: Mapping[str, Rule] = {
    "budget_tokens": Taken("max_tokens bounds thoughts and answer together"),
    "block_binding": Taken("thoughts are shown as they come back"),
}

TOOL: Mapping[str, Rule] = {
    "allowed_callers": Taken("tools are called by the model"),
    "defer_loading": Taken("tools are told at the beginning"),
    "eager_input_streaming": Taken("arguments are streamed as they come"),
    "max_characters": Taken("the tool itself says how much it shows"),
}

CITATIONS: Mapping[str, Rule] = {"citations": Only(({"enabled": False},), NO_CITATIONS)}
