"""What clients of Ollama can send and Stemma has no field for, and why so."""

from __future__ import annotations

from collections.abc import Mapping

from stemma.server.wire.fields import Only, Rule, Taken
from stemma.server.wire.known import NO_MEDIA

ONE_MODEL = "the model is loaded once, as `stemma serve` was told"
STAYS = Taken("the model stays loaded")
FITS = Taken("what does not fit into the context is refused")

OPTIONS: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "use_mlock", "numa", "low_vram", "f16_kv",
         "logits_all", "vocab_only", "embedding_only", "num_thread", "draft_num_predict"),
        Taken(ONE_MODEL),
    ),
    "num_keep": Taken("no text is ever left out"),
    "tfs_z": Only((1,), "use top_p"),
    "typical_p": Only((1,), "use top_p"),
    "mirostat": Only((0,), "use top_p"),
    "mirostat_tau": Taken("it belongs to mirostat"),
    "mirostat_eta": Taken("it belongs to mirostat"),
    "penalize_newline": Taken("penalties count every token"),
    "repeat_last_n": Taken("penalties count all of the text"),
}  # fmt: skip

ASKING: Mapping[str, Rule] = {
    "keep_alive": STAYS,
    "truncate": FITS,
    "shift": FITS,
    "_debug_render_only": Only((False,), "use /tokenize"),
}

MESSAGE: Mapping[str, Rule] = {"images": Only(([],), NO_MEDIA)}

TOOL_CALL: Mapping[str, Rule] = {
    "index": Taken("calls have the order in which they come"),
    "type": Taken("calls are of functions"),
    "description": Taken("a call is told by its name"),
}

TOOL: Mapping[str, Rule] = {"items": Taken("a function's parameters are its own")}

CHAT: Mapping[str, Rule] = ASKING

GENERATE: Mapping[str, Rule] = {
    **ASKING,
    "images": Only(([],), NO_MEDIA),
    "suffix": Only(("",), "the model fills no gaps: write a prompt that it can go on with"),
    "template": Only(("",), "the model's own is used, or none with raw"),
    "width": Taken(NO_MEDIA),
    "height": Taken(NO_MEDIA),
    "steps": Taken(NO_MEDIA),
}

EMBED: Mapping[str, Rule] = {"options": Taken(ONE_MODEL), "keep_alive": STAYS}

SHOW: Mapping[str, Rule] = {
    "verbose": Taken("the model's vocabulary is at /tokenizer"),
    "system": Taken("a model has no system prompt of its own"),
    "template": Taken("the model's own is told"),
    "options": Taken("how to sample is each request's"),
}

TRANSFER: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("insecure", "username", "password", "quantize", "quantization", "draft_quantize", "from", "remote_host",
         "files", "draft_files", "adapters", "template", "license", "system", "parameters", "messages", "renderer",
         "parser", "requires", "info"),
        Taken("models are not changed over HTTP"),
    ),
}  # fmt: skip
