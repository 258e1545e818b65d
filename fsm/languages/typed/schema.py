"""`schema_of(adapter)`: the JSON Schema of a type, with all that pydantic's core schema knows and grammars can enforce.

A walk over the core schema with pydantic's own generator, some of whose methods say more here. What neither they nor a
validator written in Python decide is refused with a FormError that names the place.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import PydanticOmit

from stemma.fsm.errors import FormError, PlacedError
from stemma.fsm.languages.typed import containers, functions, scalars, values
from stemma.fsm.languages.typed.constraints import checked, constrained
from stemma.fsm.languages.typed.finish import finished
from stemma.fsm.languages.typed.language import KEYWORD
from stemma.fsm.languages.typed.members import Member, paths_of, shape
from stemma.fsm.languages.typed.scalars import JSON


def schema_of(adapter: TypeAdapter[Any]) -> JSON:
    """Raises FormError for what cannot be enforced, pydantic's errors for what is no JSON at all."""
    return adapter.json_schema(mode="validation", schema_generator=TypedSchemas)


class TypedSchemas(GenerateJsonSchema):
    """pydantic's generator; its methods are named after the kinds of core schemas."""

    core_definitions: Mapping[str, Any] = {}

    def generate(self, schema: Any, mode: Any = "validation") -> JSON:
        return finished(super().generate(schema, mode))

    @property
    def mode(self) -> JsonSchemaMode:
        """What is read, whatever a model's own configuration prefers to show."""
        return "validation"

    def generate_inner(self, schema: Any) -> JSON:
        if schema["type"] in functions.KINDS:
            known = functions.known(schema, self._config.val_json_bytes)
            if known is not None:
                return known
            asked = checked(schema)
            if asked:
                return self._constrained(self.generate_inner(schema["schema"]), asked)
        return functions.meant_by(super().generate_inner(schema))

    def _constrained(self, schema: JSON, asked: Mapping[str, Any]) -> JSON:
        """A constraint is put on a copy of what a reference refers to."""
        found = dict(self.resolve_ref_schema(schema)) if "$ref" in schema else dict(schema)
        for constraint, value in asked.items():
            found = constrained(found, constraint, value)
        return found

    # Numbers, texts, times -------------------------------------------------------------------------------------------

    def int_schema(self, schema: Any) -> JSON:
        return scalars.integer(schema)

    def float_schema(self, schema: Any) -> JSON:
        return scalars.real(schema)

    def decimal_schema(self, schema: Any) -> JSON:
        return scalars.decimal(schema)

    def fraction_schema(self, schema: Any) -> JSON:
        return scalars.fraction(schema)

    def complex_schema(self, schema: Any) -> JSON:
        return scalars.text(None, "complex")

    def str_schema(self, schema: Any) -> JSON:
        found = super().str_schema(schema)
        if schema.get("pattern") is not None:
            engine = schema.get("regex_engine") or self._config.regex_engine
            found |= scalars.pattern(schema["pattern"], engine)
        if schema.get("strip_whitespace", self._config.str_strip_whitespace):
            found[KEYWORD] = "python-stripped"
        if schema.get("ascii_only"):
            found["allOf"] = [{KEYWORD: "python-ascii"}]
        return found

    def bytes_schema(self, schema: Any) -> JSON:
        return scalars.encoded(schema, self._config.val_json_bytes)

    def date_schema(self, schema: Any) -> JSON:
        return scalars.date(schema, _now())

    def datetime_schema(self, schema: Any) -> JSON:
        return scalars.date_time(schema, _now())

    def time_schema(self, schema: Any) -> JSON:
        return scalars.time(schema)

    def timedelta_schema(self, schema: Any) -> JSON:
        return scalars.duration(schema)

    def uuid_schema(self, schema: Any) -> JSON:
        return scalars.text("uuid", "uuid", version=schema.get("version"))

    def url_schema(self, schema: Any) -> JSON:
        return scalars.url(schema, many_hosts=False)

    def multi_host_url_schema(self, schema: Any) -> JSON:
        return scalars.url(schema, many_hosts=True)

    def enum_schema(self, schema: Any) -> JSON:
        return super().enum_schema(schema) | values.of_enum(schema)

    def literal_schema(self, schema: Any) -> JSON:
        return super().literal_schema(schema) | values.of_literal(schema)

    # Containers ------------------------------------------------------------------------------------------------------

    def set_schema(self, schema: Any) -> JSON:
        return containers.distinct(super().set_schema(schema), schema, self.core_definitions)

    def frozenset_schema(self, schema: Any) -> JSON:
        return containers.distinct(super().frozenset_schema(schema), schema, self.core_definitions)

    def tuple_schema(self, schema: Any) -> JSON:
        index = schema.get("variadic_item_index")
        if index is None or index + 1 == len(schema["items_schema"]):
            return super().tuple_schema(schema)
        return containers.with_middle([self.generate_inner(item) for item in schema["items_schema"]], index, schema)

    def _common_dict_schema(self, schema: Any) -> JSON:
        containers.check_hashable(schema.get("keys_schema"), self.core_definitions)
        keys = self._own_key(schema)
        found: JSON = {"type": "object", "x-stemma-keys": keys}
        if "values_schema" in schema:
            found["additionalProperties"] = self.generate_inner(schema["values_schema"])
        self.update_with_validations(found, schema, self.ValidationsMapping.object)
        return found

    dict_schema = frozendict_schema = ordered_dict_schema = counter_schema = _common_dict_schema

    def _own_key(self, schema: Any) -> JSON:
        return self.generate_inner(schema["keys_schema"]).copy() if "keys_schema" in schema else {"type": "string"}

    def _named_required_fields_schema(self, named_required_fields: Sequence[tuple[str, bool, Any]]) -> JSON:
        members = [self._member(*each) for each in named_required_fields if each[2].get("init") is not False]
        properties, required, others = shape(filter(None, members))
        found: JSON = {"type": "object", "properties": properties, "x-stemma-others": sorted(others)}
        return {**found, "required": required} if required else found

    def _member(self, name: str, is_required: bool, field: Any) -> Member | None:
        """A field; None where its schema is left out."""
        config = self._config
        paths = paths_of(field.get("validation_alias"), name, config.validate_by_alias is not False,
                         bool(config.validate_by_name or config.populate_by_name))  # fmt: skip
        try:
            own = self.handle_ref_overrides(self.generate_inner(field).copy())
        except FormError as error:
            raise PlacedError.of(name, error) from error
        except PydanticOmit:
            if is_required:
                raise PlacedError("it is required, but left out of the JSON schema", (name,)) from None
            return None
        if "title" not in own and self.field_title_should_be_set(field):
            own["title"] = self.get_title_from_name(str(paths[0][-1]))
        return Member(paths, own, is_required)

    def field_is_required(self, field: Any, total: bool) -> bool:
        """A default that is only said of errors leaves a field required."""
        schema = field["schema"]
        if field["type"] != "typed-dict-field" and schema["type"] == "default":
            return "default" not in schema and "default_factory" not in schema
        return super().field_is_required(field, total)

    def model_schema(self, schema: Any) -> JSON:
        return self._of_class(super().model_schema, schema)

    def dataclass_schema(self, schema: Any) -> JSON:
        return self._of_class(super().dataclass_schema, schema)

    def _of_class(self, made: Callable[[Any], JSON], schema: Any) -> JSON:
        try:
            return made(schema)
        except FormError as error:
            raise PlacedError.of(schema["cls"].__name__, error) from error

    def definitions_schema(self, schema: Any) -> JSON:
        self.core_definitions = {**self.core_definitions, **{each["ref"]: each for each in schema["definitions"]}}
        return super().definitions_schema(schema)

    # Choices ---------------------------------------------------------------------------------------------------------

    def tagged_union_schema(self, schema: Any) -> JSON:
        found = super().tagged_union_schema(schema)
        tags = containers.names_of_tag(schema["discriminator"])
        if tags is None:
            return {"anyOf": found["oneOf"]}  # a Python function chooses
        return {**found, "x-stemma-tag": tags}

    def chain_schema(self, schema: Any) -> JSON:
        """All steps speak of the same text, but for what Python code made of it."""
        first, *rest = schema["steps"]
        found = self.generate_inner(first)
        further = [self.generate_inner(step["schema"]) for step in rest if functions.adds_constraint(step)]
        if any(step["type"] == "is-instance" and step["cls"] is Hashable for step in rest):
            further.append({"type": ["null", "boolean", "number", "string"]})
        return {"allOf": [found, *further]} if further else found

    def is_subclass_schema(self, schema: Any) -> JSON:
        raise FormError("a class has no JSON form; use a Literal of names")

    def lax_or_strict_schema(self, schema: Any) -> JSON:
        is_strict = schema.get("strict", self._config.strict)
        return self.generate_inner(schema["strict_schema" if is_strict else "lax_schema"])

    def json_schema(self, schema: Any) -> JSON:
        """A text that is JSON of a value."""
        content = self.generate_inner(schema["schema"]) if "schema" in schema else {}
        return {"type": "string", "contentMediaType": "application/json", "x-stemma-content": content}


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
