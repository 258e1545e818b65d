"""JSON Schema to grammar: draft-04 to 2020-12, exact where it compiles, refused by JSON pointer where it cannot be."""

from stemma.fsm.languages.json_schema.spec import JSONSchema

__all__ = ["JSONSchema"]
