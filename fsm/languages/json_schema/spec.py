"""`JSONSchema(schema)`: a JSON Schema (draft-04, 06, 07, 2019-09 or 2020-12) as a form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stemma.fsm.errors import LimitError, SchemaError, UnsupportedSchema
from stemma.fsm.languages.json_schema.blame import impossible
from stemma.fsm.languages.json_schema.compiler import SchemaCompiler
from stemma.fsm.languages.json_schema.document import Document, Schema
from stemma.fsm.languages.json_schema.meaning import Meaning
from stemma.fsm.languages.json_schema.options import IntegerText, PropertyOrder, SchemaOptions, WhiteSpace
from stemma.fsm.languages.json_schema.support import problems
from stemma.fsm.syntax.ast import Grammar

MAXIMUM_TEXT = 16_000_000


@dataclass(frozen=True)
class JSONSchema:
    """JSON that a schema accepts; `schema` is its dictionary, a boolean, or its JSON text.

    `SchemaOptions` says what the other fields mean. What cannot be enforced raises `UnsupportedSchema` with its JSON
    pointer, unless `on_unsupported="ignore"`; `unsupported()` lists what that leaves out. `resources` are the other
    documents that it refers to, by their URIs.
    """

    schema: Schema | str = field(hash=False)
    property_order: PropertyOrder = "declared"
    white_space: WhiteSpace = "compact"
    maximum_space: int = 20
    formats: Literal["enforced", "annotated"] = "enforced"
    integers: IntegerText = "plain"
    on_unsupported: Literal["refuse", "ignore"] = "refuse"
    maximum_digits: int = 32
    resources: Mapping[str, Schema] = field(default_factory=dict, hash=False)

    def options(self) -> SchemaOptions:
        return SchemaOptions(
            self.property_order,
            self.white_space,
            self.maximum_space,
            self.formats,
            self.integers,
            self.on_unsupported,
            self.maximum_digits,
        )

    def document(self) -> Document:
        """The schema, read but not yet understood."""
        return Document(parsed(self.schema) if isinstance(self.schema, str) else self.schema, self.resources)

    def meaning(self) -> Meaning:
        """What the schema says of values; raises what is wrong with it."""
        document, options = self.document(), self.options()
        if document.root.draft <= 4:  # whose integers are those without a fraction
            options = replace(options, integers="plain")
        meaning = Meaning(document, options)
        for problem in problems(meaning):
            if self.on_unsupported == "refuse" or not isinstance(problem, UnsupportedSchema):
                raise problem
        return meaning

    def grammar(self) -> Grammar:
        try:
            meaning = self.meaning()
            root = meaning.expansion.root()
            if not meaning.possible_goal(root):
                raise impossible(meaning, root)
            return SchemaCompiler(meaning).grammar()
        except RecursionError:
            raise LimitError("the schema's references or branches are nested too deeply") from None

    def unsupported(self) -> list[UnsupportedSchema]:
        """What cannot be enforced, and is left out where that was accepted."""
        found = problems(Meaning(self.document(), replace(self.options(), on_unsupported="refuse")))
        return [problem for problem in found if isinstance(problem, UnsupportedSchema)]


def parsed(text: str) -> Any:
    if len(text) > MAXIMUM_TEXT:
        raise LimitError(f"a schema of more than {MAXIMUM_TEXT} characters")
    try:
        return json.loads(text)
    except ValueError as error:
        raise SchemaError(f"not JSON: {error}", "") from error
    except RecursionError:
        raise LimitError("the schema's JSON is nested too deeply") from None
