"""Content blocks of Anthropic's messages as they come over the wire. What is no text is refused with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from stemma.server.anthropic.known import BLOCK, CITATIONS
from stemma.server.wire.fields import Refused, Rule, Taken, Wire
from stemma.server.wire.known import TEXT_ONLY

ELSEWHERE = "it is of a tool that runs at Anthropic: leave it out, or send what it says as text"


class CacheControl(Wire):
    """The prompt up to here is kept for a while."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Wire, tag_field="type", tag="text"):
    """Text."""

    rules: ClassVar[Mapping[str, Rule]] = {
        "citations": Taken("the text is what was said"),
        "parsed_output": Taken("the text is what was said"),
    }

    text: str
    cache_control: CacheControl | None = None


class ImageBlock(Refused, tag_field="type", tag="image"):
    """A picture."""

    instead: ClassVar[str] = TEXT_ONLY


class PlainSource(Wire, tag_field="type", tag="text"):
    """A document that is text."""

    data: str
    media_type: str | None = None

    @property
    def text(self) -> str:
        """What it says."""
        return self.data


class ContentSource(Wire, tag_field="type", tag="content"):
    """A document in pieces."""

    content: str | list[TextBlock | ImageBlock]

    @property
    def text(self) -> str:
        """What it says."""
        return self.content if isinstance(self.content, str) else joined(self.content)


class DataSource(Refused, tag_field="type", tag="base64"):
    """A document's bytes."""

    instead: ClassVar[str] = TEXT_ONLY


class UrlSource(Refused, tag_field="type", tag="url"):
    """A document elsewhere."""

    instead: ClassVar[str] = "nothing is fetched: send the text of the document"


class FileSource(Refused, tag_field="type", tag="file"):
    """A document that was sent before."""

    instead: ClassVar[str] = "send the text of the document"


class DocumentBlock(Wire, tag_field="type", tag="document"):
    """A document, if it is text."""

    rules: ClassVar[Mapping[str, Rule]] = CITATIONS

    source: PlainSource | ContentSource | DataSource | UrlSource | FileSource
    title: str | None = None
    context: str | None = None
    cache_control: CacheControl | None = None

    @property
    def text(self) -> str:
        """What it says, below its title."""
        assert isinstance(self.source, PlainSource | ContentSource)
        return "\n".join(filter(None, (self.title, self.context, self.source.text)))


class SearchResultBlock(Wire, tag_field="type", tag="search_result"):
    """What a search of the caller's found."""

    rules: ClassVar[Mapping[str, Rule]] = CITATIONS

    source: str
    title: str
    content: list[TextBlock]
    cache_control: CacheControl | None = None

    @property
    def text(self) -> str:
        """What it says, below its title and where it was found."""
        return "\n".join(filter(None, (self.title, self.source, joined(self.content))))


class ThinkingBlock(Wire, tag_field="type", tag="thinking"):
    """What the model thought before. signature: has the thoughts where they were left out of the answer."""

    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(Wire, tag_field="type", tag="redacted_thinking"):
    """Thoughts that only Anthropic can read."""

    rules: ClassVar[Mapping[str, Rule]] = {"data": Taken("thoughts that cannot be read are left out")}


class ToolUseBlock(Wire, tag_field="type", tag="tool_use"):
    """A call that the model made."""

    rules: ClassVar[Mapping[str, Rule]] = BLOCK

    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None


class ToolReferenceBlock(Wire, tag_field="type", tag="tool_reference"):
    """The name of a tool that was found; all are told at the beginning."""

    tool_name: str
    cache_control: CacheControl | None = None

    @property
    def text(self) -> str:
        """What it says."""
        return self.tool_name


class BrowserStateBlock(Refused, tag_field="type", tag="browser_state"):
    """What a browser shows."""

    instead: ClassVar[str] = TEXT_ONLY


Said = TextBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock
"""What has a text."""

ResultBlock = Said | ImageBlock | BrowserStateBlock


class ToolResultBlock(Wire, tag_field="type", tag="tool_result"):
    """What came of a call."""

    rules: ClassVar[Mapping[str, Rule]] = BLOCK

    tool_use_id: str
    content: str | list[ResultBlock] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None

    @property
    def text(self) -> str:
        """What the model is told of it."""
        said = self.content if isinstance(self.content, str | None) else joined(self.content)
        return f"Error: {said or ''}" if self.is_error else said or ""


class Elsewhere(Refused):
    """What belongs to tools that Anthropic runs."""

    instead: ClassVar[str] = ELSEWHERE


class ServerToolUseBlock(Elsewhere, tag_field="type", tag="server_tool_use"):
    """A call that Anthropic answers."""


class WebSearchResultBlock(Elsewhere, tag_field="type", tag="web_search_tool_result"):
    """What such a call came to."""


class WebFetchResultBlock(Elsewhere, tag_field="type", tag="web_fetch_tool_result"):
    """What such a call came to."""


class CodeResultBlock(Elsewhere, tag_field="type", tag="code_execution_tool_result"):
    """What such a call came to."""


class BashResultBlock(Elsewhere, tag_field="type", tag="bash_code_execution_tool_result"):
    """What such a call came to."""


class EditorResultBlock(Elsewhere, tag_field="type", tag="text_editor_code_execution_tool_result"):
    """What such a call came to."""


class ToolSearchResultBlock(Elsewhere, tag_field="type", tag="tool_search_tool_result"):
    """What such a call came to."""


class McpToolUseBlock(Elsewhere, tag_field="type", tag="mcp_tool_use"):
    """A call that Anthropic answers."""


class McpToolResultBlock(Elsewhere, tag_field="type", tag="mcp_tool_result"):
    """What such a call came to."""


class ContainerUploadBlock(Refused, tag_field="type", tag="container_upload"):
    """A file for a container of Anthropic's."""

    instead: ClassVar[str] = TEXT_ONLY


Block = (
    Said
    | ImageBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | ServerToolUseBlock
    | WebSearchResultBlock
    | WebFetchResultBlock
    | CodeResultBlock
    | BashResultBlock
    | EditorResultBlock
    | ToolSearchResultBlock
    | McpToolUseBlock
    | McpToolResultBlock
    | ContainerUploadBlock
)

Content = str | list[Block]


def joined(blocks: list[Any]) -> str:
    """The texts of blocks, each on lines of its own."""
    return "\n".join(block.text for block in blocks if not isinstance(block, Refused))
