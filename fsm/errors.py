"""What can be wrong with what a user asked of `fsm`: each error says where it is and what to do instead."""

from __future__ import annotations


class FormError(ValueError):
    """Any regex, schema, grammar or tag specification that cannot be turned into an automaton."""


class RegexError(FormError):
    """A regular expression that is malformed or not a regular language."""

    def __init__(self, message: str, pattern: str, position: int) -> None:
        super().__init__(f"{message} (at position {position} of {shortened(pattern)!r})")
        self.pattern = pattern
        self.position = position


class GrammarError(FormError):
    """An EBNF or Lark text that cannot be read."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


class SchemaError(FormError):
    """A JSON Schema that is malformed, by JSON pointer."""

    def __init__(self, message: str, pointer: str) -> None:
        super().__init__(f"{pointer or '/'}: {message}")
        self.message = message
        self.pointer = pointer


class UnsupportedSchema(SchemaError):
    """A keyword that no automaton can enforce; `on_unsupported="ignore"` accepts the schema without it."""


class PlacedError(FormError):
    """A part of a Python type that cannot be enforced, by the way to it: names of classes and of their fields."""

    def __init__(self, message: str, place: tuple[str, ...]) -> None:
        super().__init__(f"{'.'.join(place)}: {message}")
        self.message = message
        self.place = place

    @classmethod
    def of(cls, name: str, error: FormError) -> PlacedError:
        """An error that was met on the way through `name`."""
        if isinstance(error, PlacedError):
            return cls(error.message, (name, *error.place))
        return cls(str(error), (name,))


class LimitError(FormError):
    """A specification that would need more memory or time than the limits allow."""


class GrammarLimit(GrammarError, LimitError):
    """A grammar that would need more than the limits allow, with the line."""


class KernelsFailed(RuntimeError):
    """A kernel says what the compiler of kernels does not know: the message has the line."""


def shortened(text: str, limit: int = 200) -> str:
    """`text` for a message: its beginning if it is long."""
    return text if len(text) <= limit else f"{text[:limit]}..."
