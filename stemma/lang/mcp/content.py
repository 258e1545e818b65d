"""What a call of a server resulted in, as the text that a model is told: pictures and sounds are described."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.types import CallToolResult


def result_of(result: CallToolResult) -> str:
    """Its texts, one a line; what it has as a value, where it has no text."""
    told = [_text(block) for block in result.content]
    has_text = any(block.type in ("text", "resource") for block in result.content)
    if result.structured_content is not None and not has_text:
        told.insert(0, json.dumps(result.structured_content, ensure_ascii=False))
    return "\n".join(told)


def _text(block: Any) -> str:
    match block.type:
        case "text":
            return str(block.text)
        case "image" | "audio":
            return f"[{block.type}: {block.mime_type}, {_num_bytes(block.data)} bytes, which cannot be shown here]"
        case "resource_link":
            about = f": {block.description}" if block.description else ""
            return f"[resource {block.uri} ({block.name}){about}]"
        case "resource" if (text := getattr(block.resource, "text", None)) is not None:
            return str(text)
        case "resource":
            return (
                f"[resource {block.resource.uri}: {_num_bytes(block.resource.blob)} bytes, which cannot be shown here]"
            )
    return f"[{block.type}, which cannot be shown here]"


def _num_bytes(base64: str) -> int:
    return len(base64.rstrip("=")) * 3 // 4
