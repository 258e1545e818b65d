"""Which fields the newest clients can send that Stemma neither has nor has a rule for.

    python tests/contract/client_fields.py

Reads the types of requests in the source of the newest packages, without installing or running them, and prints what is
new; the exit status is 1 then. What is told belongs into a struct or into `stemma/server/wire/known.py`.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tarfile
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from stemma.server.anthropic import blocks as anthropic
from stemma.server.anthropic import wire as messages
from stemma.server.batches.wire import BatchRequest, ExpiresAfter
from stemma.server.ollama.wire import (
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaMessage,
    OllamaOptions,
    OllamaShowRequest,
    OllamaTool,
    OllamaTransferRequest,
)
from stemma.server.openai.wire import (
    CompactRequest,
    CompletionRequest,
    ConversationRequest,
    InputTokensRequest,
    ItemsRequest,
    MetadataRequest,
    ResponsesRequest,
)
from stemma.server.pooling.wire import EmbeddingsRequest, RerankRequest, ScoreRequest
from stemma.server.sglang.wire import GenerateRequest, NativeSampling
from stemma.server.wire.chat import ChatRequest
from stemma.server.wire.common import StreamOptions, StructuredOutputs
from stemma.server.wire.fields import Wire, rules_of

INDEX = "https://pypi.org"


class Peer(NamedTuple):
    """A package; which of its files hold types; its types, with what they are here; fields that are
    its own work."""

    package: str
    archive: str
    files: str
    types: Mapping[str, type[Wire]]
    not_sent: frozenset[str] = frozenset()


PEERS = (
    Peer(
        "openai", r"-py3-none-any\.whl$",
        r"openai/types/(chat/completion_create_params|embedding_create_params"
        r"|responses/response_create_params|chat/chat_completion_stream_options_param|batch_create_params"
        r"|responses/(input_token_count|response_compact)_params"
        r"|conversations/(conversation_create|conversation_update|item_create)_params)\.py$",
        {"CompletionCreateParamsBase": ChatRequest, "ResponseCreateParamsBase": ResponsesRequest,
         "InputTokenCountParams": InputTokensRequest, "ResponseCompactParams": CompactRequest,
         "ConversationCreateParams": ConversationRequest, "ConversationUpdateParams": MetadataRequest,
         "ItemCreateParams": ItemsRequest, "BatchCreateParams": BatchRequest, "OutputExpiresAfter": ExpiresAfter,
         "EmbeddingCreateParams": EmbeddingsRequest, "ChatCompletionStreamOptionsParam": StreamOptions},
    ),
    Peer(
        "vllm", r"\.tar\.gz$", r"/vllm/(entrypoints/.*protocol|sampling_params)\.py$",
        {"ChatCompletionRequest": ChatRequest, "CompletionRequest": CompletionRequest,
         "ResponsesRequest": ResponsesRequest,
         "StructuredOutputsParams": StructuredOutputs, "StreamOptions": StreamOptions,
         "EmbeddingCompletionRequest": EmbeddingsRequest, "RerankRequest": RerankRequest},
    ),
    Peer(
        "sglang", r"(py3-none-any|x86_64)\.whl$",
        r"sglang/srt/(entrypoints/openai/protocol|managers/io_struct|sampling/sampling_params)\.py$",
        {"ChatCompletionRequest": ChatRequest, "CompletionRequest": CompletionRequest,
         "ResponsesRequest": ResponsesRequest,
         "GenerateReqInput": GenerateRequest, "SamplingParams": NativeSampling, "EmbeddingRequest": EmbeddingsRequest,
         "V1RerankReqInput": RerankRequest, "ScoringRequest": ScoreRequest},
        frozenset(("is_normalized", "stop_strs", "stop_str_max_len", "stop_regex_strs", "stop_regex_max_len")),
    ),
    Peer(
        "anthropic", r"-py3-none-any\.whl$", r"anthropic/types/(beta/)?\w+_params?\.py$",
        {"MessageCreateParamsBase": messages.MessagesRequest, "MessageCountTokensParams": messages.CountTokensRequest,
         "UserMessageParam": messages.MessageParam, "AssistantMessageParam": messages.MessageParam,
         "BetaSystemMessageParam": messages.MessageParam, "BetaOutputConfigParam": messages.OutputConfig,
         "BetaThinkingConfigEnabledParam": messages.ThinkingParam,
         "BetaThinkingConfigAdaptiveParam": messages.ThinkingParam, "ToolChoiceToolParam": messages.ToolChoiceParam,
         "ToolParam": messages.ToolParam, "BetaToolParam": messages.ToolParam,
         "ToolBash20250124Param": messages.ToolParam, "ToolTextEditor20250728Param": messages.ToolParam,
         "MemoryTool20250818Param": messages.ToolParam, "JSONOutputFormatParam": messages.JsonFormat,
         "CacheControlEphemeralParam": anthropic.CacheControl, "TextBlockParam": anthropic.TextBlock,
         "ThinkingBlockParam": anthropic.ThinkingBlock, "RedactedThinkingBlockParam": anthropic.RedactedThinkingBlock,
         "ToolUseBlockParam": anthropic.ToolUseBlock, "ToolResultBlockParam": anthropic.ToolResultBlock,
         "DocumentBlockParam": anthropic.DocumentBlock, "SearchResultBlockParam": anthropic.SearchResultBlock,
         "ToolReferenceBlockParam": anthropic.ToolReferenceBlock, "PlainTextSourceParam": anthropic.PlainSource,
         "ContentBlockSourceParam": anthropic.ContentSource},
    ),
    Peer(
        "ollama", r"-py3-none-any\.whl$", r"ollama/_types\.py$",
        {"ChatRequest": OllamaChatRequest, "GenerateRequest": OllamaGenerateRequest, "Options": OllamaOptions,
         "Message": OllamaMessage, "Tool": OllamaTool, "EmbedRequest": OllamaEmbedRequest,
         "EmbeddingsRequest": OllamaEmbeddingsRequest, "ShowRequest": OllamaShowRequest,
         "PullRequest": OllamaTransferRequest, "CreateRequest": OllamaTransferRequest},
        frozenset(("from_", "model_config")),
    ),
)  # fmt: skip


def newest(peer: Peer) -> tuple[str, bytes]:
    """The version and the archive of a package."""
    with urllib.request.urlopen(f"{INDEX}/pypi/{peer.package}/json", timeout=60) as page:
        version = json.load(page)["info"]["version"]
    with urllib.request.urlopen(f"{INDEX}/simple/{peer.package}/", timeout=60) as page:
        links = re.findall(r'href="([^"#]+)', page.read().decode())
    wanted = [link for link in links if f"-{version}" in link and re.search(peer.archive, link)]
    with urllib.request.urlopen(urllib.parse.urljoin(page.geturl(), wanted[-1]), timeout=600) as file:
        return version, file.read()


def sources(archive: bytes, files: str) -> Iterator[str]:
    """The text of the files whose names match."""
    if zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            yield from (opened.read(name).decode() for name in opened.namelist() if re.search(files, name))
        return
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if re.search(files, member.name) and (file := tar.extractfile(member)) is not None:
                yield file.read().decode()


class Declared(NamedTuple):
    """A class as it is written: the names of its bases and of its fields."""

    bases: list[str]
    fields: list[str]


def declared(text: str) -> Iterator[tuple[str, Declared]]:
    """The classes of a file. Several may have one name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            fields = [
                line.target.id
                for line in node.body
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
                and not line.target.id.startswith("_") and "ClassVar" not in ast.unparse(line.annotation)
            ]  # fmt: skip
            yield node.name, Declared([ast.unparse(base).split(".")[-1] for base in node.bases], fields)


def fields_of(name: str, classes: Mapping[str, list[Declared]]) -> set[str]:
    """The fields of all classes of a name, those of their bases included."""
    found = set[str]()
    for one in classes.get(name, ()):
        found |= {*one.fields, *(field for base in one.bases if base != name for field in fields_of(base, classes))}
    return found


def main() -> int:
    """Prints what is new; returns the exit status."""
    is_new = False
    for peer in PEERS:
        version, archive = newest(peer)
        classes: dict[str, list[Declared]] = {}
        for text in sources(archive, peer.files):
            for name, one in declared(text):
                classes.setdefault(name, []).append(one)
        for name, kind in peer.types.items():
            fields = fields_of(name, classes)
            tag = kind.__struct_config__.tag_field
            unknown = sorted(fields - {*kind.__struct_fields__, tag, *rules_of(kind), *peer.not_sent})
            what = ", ".join(unknown) or ("nothing new" if fields else "NO SUCH TYPE")
            print(f"{peer.package} {version} {name} ({len(fields)} fields) -> {kind.__name__}: {what}")
            is_new |= bool(unknown) or not fields
    return int(is_new)


if __name__ == "__main__":
    sys.exit(main())
