"""One JSON Schema document: its drafts, its places, and what a reference in it points to.

Finds `$id`, `$anchor` and `$dynamicAnchor` wherever a schema can stand. Nothing is ever fetched: a reference to another
document is looked up among the resources that came with the schema, or refused with its pointer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urljoin

from stemma.fsm.errors import LimitError, SchemaError, UnsupportedSchema
from stemma.fsm.languages.json_schema.keywords import groups

Schema = dict[str, Any] | bool

DRAFTS = {
    "http://json-schema.org/draft-03/schema": 3,
    "http://json-schema.org/draft-04/schema": 4,
    "http://json-schema.org/draft-06/schema": 6,
    "http://json-schema.org/draft-07/schema": 7,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "https://json-schema.org/draft/2020-12/schema": 2020,
}
LATEST = 2020
MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
SINGLES = ("items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "contains",
           "propertyNames", "x-stemma-content", "not", "if", "then", "else")  # fmt: skip
MAXIMUM_DEPTH = 256
MAXIMUM_PLACES = 2_000_000


class Place:
    """A schema where it stands. One object a place, so that identity is equality."""

    __slots__ = ("_groups", "base", "draft", "pointer", "schema")

    def __init__(self, schema: Schema, pointer: str, base: str, draft: int) -> None:
        self.schema = schema
        self.pointer = pointer
        self.base = base
        self.draft = draft
        self._groups: list[str] | None = None

    @property
    def groups(self) -> list[str]:
        """The groups of keywords that the schema uses; none where it says nothing."""
        if self._groups is None:
            self._groups = [] if isinstance(self.schema, bool) else groups(self.schema, self.draft)
        return self._groups

    @property
    def only_type(self) -> str | None:
        """The one type that is all that the schema says, if it says no more than that."""
        if self.groups != ["type"] or isinstance(self.schema, bool):
            return None
        named = self.schema["type"]
        return named if isinstance(named, str) else None


class Document:
    """Every place of one schema document, made when it is first asked for. `resources`: other documents, by URI."""

    def __init__(self, schema: Schema, resources: Mapping[str, Schema] = MappingProxyType({})) -> None:
        self.schema = schema
        self.resources = resources
        self.places: dict[tuple[int, str], Place] = {}
        self.kept: list[Schema] = []
        self.targets: dict[tuple[str, str], Place] = {}  # (resource, anchor or "") -> place
        self.dynamic: dict[tuple[str, str], Place] = {}  # (resource, dynamic anchor; "" for $recursiveAnchor) -> place
        self.num_dynamic: Counter[str] = Counter()  # of each such anchor
        self.resolved: dict[tuple[str, str], Place] = {}  # (base, reference) -> place
        self.root = self.place(schema, "", "", LATEST)
        self.targets[("", "")] = self.targets[(self.root.base, "")] = self.root
        self.surveyed = False

    def place(self, schema: Any, pointer: str, base: str, draft: int) -> Place:
        """The place of a schema met at `pointer`, its own `$schema` and `$id` taken into account."""
        if not isinstance(schema, (dict, bool)):
            raise SchemaError(f"a schema is an object or a boolean, not {type(schema).__name__}", pointer)
        key = (id(schema), pointer if isinstance(schema, bool) else base)
        return self.places.get(key) or self._new_place(key, schema, pointer, base, draft)

    def _new_place(self, key: tuple[int, str], schema: Schema, pointer: str, base: str, draft: int) -> Place:
        self.kept.append(schema)
        own_base = base
        if isinstance(schema, dict):
            if "$schema" in schema:
                draft = declared_draft(schema, draft, pointer)
            if "$id" in schema or "id" in schema:
                own_base = joined(base, identifier(schema, draft)).partition("#")[0]
        place = self.places[key] = Place(schema, pointer, own_base, draft)
        return place

    def child(self, place: Place, schema: Any, *path: str) -> Place:
        """The place of a schema inside another one."""
        if not isinstance(schema, dict):
            return self.place(schema, below(place.pointer, path), place.base, place.draft)
        key = (id(schema), place.base)
        known = self.places.get(key)
        return known or self._new_place(key, schema, below(place.pointer, path), place.base, place.draft)

    def children(self, place: Place) -> Iterator[Place]:
        """Every schema that stands directly inside one."""
        schema = place.schema
        if isinstance(schema, bool):
            return
        for keyword in MAPS:
            inner = schema.get(keyword)
            if isinstance(inner, dict):
                for name, value in inner.items():
                    if isinstance(value, (dict, bool)):
                        yield self.child(place, value, keyword, name)
        for keyword in LISTS:
            inner = schema.get(keyword)
            if isinstance(inner, list):
                for index, value in enumerate(inner):
                    yield self.child(place, value, keyword, str(index))
        for keyword in SINGLES:
            inner = schema.get(keyword)
            if isinstance(inner, dict):
                yield self.child(place, inner, keyword)

    def survey(self) -> None:
        """Visits every place and notes what can be referred to by name; done when a reference first asks for that."""
        if self.surveyed:
            return
        self.surveyed = True
        self._survey(self.root)

    def _survey(self, root: Place) -> None:
        seen = {id(root)}
        todo = [(root, 0)]
        while todo:
            place, depth = todo.pop()
            self._note_names(place)
            if depth > MAXIMUM_DEPTH:
                raise LimitError(f"the schema is nested deeper than {MAXIMUM_DEPTH}; use $ref")
            if len(seen) > MAXIMUM_PLACES:
                raise LimitError(f"the schema has more than {MAXIMUM_PLACES} subschemas")
            for child in self.children(place):
                if id(child) not in seen:
                    seen.add(id(child))
                    todo.append((child, depth + 1))

    def _note_names(self, place: Place) -> None:
        schema = place.schema
        if isinstance(schema, bool):
            return
        own = identifier(schema, place.draft)
        if own is not None and own != "#" and not own.startswith("#"):
            self.targets.setdefault((place.base, ""), place)
        if own is not None and own.startswith("#") and place.draft <= 7:
            self.targets.setdefault((place.base, own[1:]), place)
        if place.draft >= 2019:
            for keyword in ("$anchor", "$dynamicAnchor"):
                anchor = schema.get(keyword)
                if isinstance(anchor, str):
                    self.targets.setdefault((place.base, anchor), place)
                    if keyword == "$dynamicAnchor":
                        self._notice_dynamic(place, anchor)
            if schema.get("$recursiveAnchor") is True:
                self._notice_dynamic(place, "")

    def _notice_dynamic(self, place: Place, anchor: str) -> None:
        if (place.base, anchor) not in self.dynamic:
            self.dynamic[place.base, anchor] = place
            self.num_dynamic[anchor] += 1

    # References --------------------------------------------------------------------------------------------------

    def resolve(self, place: Place, reference: Any) -> Place:
        """What `$ref` at a place points to."""
        if not isinstance(reference, str):
            raise SchemaError("$ref must be a string", place.pointer)
        known = self.resolved.get((place.base, reference))
        if known is None:
            known = self.resolved[place.base, reference] = self._looked_up(place, reference)
        return known

    def _looked_up(self, place: Place, reference: str) -> Place:
        resource, _, fragment = joined(place.base, reference).partition("#")
        fragment = unquote(fragment)
        by_name = bool(fragment) and not fragment.startswith("/")
        if by_name or (resource, "") not in self.targets:
            self.survey()
        root = self.targets.get((resource, "")) or self._other(resource)
        if root is None:
            raise UnsupportedSchema(
                f"{reference!r} is another document, and none is ever fetched; give it in `resources`, or copy it into "
                "$defs",
                f"{place.pointer}/$ref",
            )
        if not fragment:
            return root
        found = self._walk(root, fragment) if not by_name else self.targets.get((resource, fragment))
        if found is None and not by_name and reference.startswith("#"):
            found = self._walk(self.root, fragment)  # many schemas forget that an inner `id` moves the base
        if found is None:
            raise SchemaError(f"{reference!r} points to nothing in this document", f"{place.pointer}/$ref")
        return found

    def _other(self, resource: str) -> Place | None:
        """The root of another document that came with the schema."""
        schema = self.resources.get(resource)
        if schema is None:
            return None
        root = self.targets[(resource, "")] = self.place(schema, f"{resource}#", resource, LATEST)
        self._survey(root)
        return root

    def resolve_dynamically(self, place: Place, keyword: str, scope: tuple[str, ...]) -> Place:
        """What `$dynamicRef` or `$recursiveRef` points to, given the resources entered, the outermost first."""
        target, name = self._dynamic_target(place, keyword)
        if self.dynamic.get((target.base, name)) is not target:
            return target
        return next((self.dynamic[(base, name)] for base in scope if (base, name) in self.dynamic), target)

    def resolve_wherever(self, place: Place, keyword: str) -> Place | None:
        """What a dynamic reference points to from wherever it is entered; None where that makes a difference."""
        target, name = self._dynamic_target(place, keyword)
        is_fixed = self.num_dynamic[name] <= 1 or self.dynamic.get((target.base, name)) is not target
        return target if is_fixed else None

    def _dynamic_target(self, place: Place, keyword: str) -> tuple[Place, str]:
        """What a dynamic reference points to at first, and the name by which another may stand in for it."""
        assert isinstance(place.schema, dict), "only an object holds a reference"
        reference = place.schema[keyword]
        target = self.resolve(place, reference)
        return target, reference.rpartition("#")[2] if keyword == "$dynamicRef" else ""

    def _walk(self, root: Place, pointer: str) -> Place | None:
        """A JSON pointer from the root of a resource, noticing every `$id` on the way."""
        here: Any = root.schema
        place, path = root, root.pointer
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            path = f"{path}/{part}"
            if isinstance(here, list) and key.isdigit() and int(key) < len(here):
                here = here[int(key)]
            elif isinstance(here, dict) and key in here:
                here = here[key]
            else:
                return None
            if isinstance(here, dict) and isinstance(here.get("$id", here.get("id")), str):
                place = self.place(here, path, place.base, place.draft)
        if isinstance(here, dict) and place.schema is here:
            return place
        return self.place(here, path, place.base, place.draft)


def below(pointer: str, path: tuple[str, ...]) -> str:
    """The JSON pointer to what lies at `path` inside what `pointer` points to."""
    for part in path:
        pointer += "/" + (part.replace("~", "~0").replace("/", "~1") if "~" in part or "/" in part else part)
    return pointer


def declared_draft(schema: dict[str, Any], inherited: int, pointer: str) -> int:
    """The draft that a schema names, or that of the schema around it."""
    named = schema.get("$schema")
    if not isinstance(named, str):
        return inherited
    draft = DRAFTS.get(named.rstrip("#").rstrip("/"))
    if draft == 3:
        raise UnsupportedSchema("draft-03 is not supported; use draft-04 or later", f"{pointer}/$schema")
    return inherited if draft is None else draft


def identifier(schema: dict[str, Any], draft: int) -> str | None:
    """The schema's own `$id` (`id` in draft-04); up to draft-07 a `$ref` beside it takes it away."""
    if draft <= 7 and "$ref" in schema:
        return None
    own = schema.get("id" if draft == 4 else "$id")
    return own if isinstance(own, str) else None


def joined(base: str, reference: str | None) -> str:
    """A reference made absolute, its empty fragment taken off."""
    if not reference or reference == "#":
        return base
    if reference.startswith("#"):
        return base + reference
    absolute = reference if reference.startswith("urn:") else urljoin(base, reference)
    return absolute.removesuffix("#")
