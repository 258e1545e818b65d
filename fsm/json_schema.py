"""The public door to JSON Schemas; they are read in `stemma.fsm.languages.json_schema`."""

from stemma.fsm.languages.json_schema import JSONSchema

__all__ = ["JSONSchema"]
