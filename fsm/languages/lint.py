"""What becomes of every keyword of a JSON Schema (enforced, refused, an annotation), by JSON pointer, and warnings.

The data of `stemma schema lint`; it compiles nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from stemma.fsm.errors import SchemaError, UnsupportedSchema
from stemma.fsm.languages.json_schema.document import Place
from stemma.fsm.languages.json_schema.facts import Format
from stemma.fsm.languages.json_schema.formats import FORMATS
from stemma.fsm.languages.json_schema.keywords import KEYWORDS
from stemma.fsm.languages.json_schema.meaning import Meaning
from stemma.fsm.languages.json_schema.options import SchemaOptions
from stemma.fsm.languages.json_schema.readers import text_facts
from stemma.fsm.languages.json_schema.spec import JSONSchema
from stemma.fsm.languages.json_schema.support import problems, reachable
from stemma.fsm.languages.json_schema.texts import contradicts

Status = Literal["enforced", "refused", "malformed", "annotated"]
STRUCTURE = frozenset({"$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$defs", "definitions"})
WITH = {"then": "if", "else": "if", "minContains": "contains", "maxContains": "contains",
        "x-stemma-regex": "pattern"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One keyword at one place."""

    pointer: str
    keyword: str
    status: Status
    note: str = ""


@dataclass(frozen=True, slots=True)
class Warning:
    """What is enforced as written, but may not be what was meant."""

    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class LintReport:
    findings: tuple[Finding, ...]
    warnings: tuple[Warning, ...]

    @property
    def is_supported(self) -> bool:
        """Whether the schema compiles as it is."""
        return not any(finding.status in ("refused", "malformed") for finding in self.findings)


def lint(spec: JSONSchema) -> LintReport:
    """Every reachable keyword of a schema; raises only for what is no schema at all."""
    options = spec.options()
    meaning = Meaning(spec.document(), options)
    wrong = {problem.pointer: problem for problem in problems(meaning)}
    findings: list[Finding] = []
    warnings: list[Warning] = []
    if options.white_space == "flexible":
        message = f"up to {options.maximum_space} characters of white space may stand anywhere; models waste tokens"
        warnings.append(Warning("", message))
    for place, _ in reachable(meaning.expansion.document):
        if isinstance(place.schema, dict):
            findings += _findings(place, place.schema, options.formats == "enforced", wrong)
            warnings += _warnings(place, place.schema)
            if "pattern" in place.schema and f"{place.pointer}/pattern" not in wrong:
                warnings += _contradictions(place, place.schema, options)
    shown = {finding.pointer for finding in findings} | {f"{finding.pointer}/{finding.keyword}" for finding in findings}
    findings += [_finding(problem, pointer, "") for pointer, problem in wrong.items() if pointer not in shown]
    return LintReport(tuple(sorted(findings, key=lambda found: (found.pointer, found.keyword))), tuple(warnings))


def _findings(place: Place, schema: dict[str, Any], formats: bool, wrong: dict[str, SchemaError]) -> Iterator[Finding]:
    only_reference = place.draft <= 7 and "$ref" in schema
    for keyword, value in schema.items():
        problem = wrong.get(f"{place.pointer}/{keyword}")
        if problem is not None:
            yield _finding(problem, place.pointer, keyword)
            continue
        known = KEYWORDS.get(WITH.get(keyword, keyword))
        if keyword in STRUCTURE:
            yield Finding(place.pointer, keyword, "enforced", "names and places")
        elif known is None:
            yield Finding(place.pointer, keyword, "annotated")
        elif only_reference and keyword != "$ref":
            yield Finding(place.pointer, keyword, "annotated", "up to draft-07, nothing beside $ref counts")
        elif not known[1] <= place.draft <= known[2]:
            yield Finding(place.pointer, keyword, "annotated", f"no keyword of draft {place.draft}")
        elif keyword in WITH and WITH[keyword] not in schema:
            yield Finding(place.pointer, keyword, "annotated", f"says nothing without {WITH[keyword]!r}")
        elif keyword == "format" and (value not in FORMATS or not formats):
            yield Finding(place.pointer, keyword, "annotated", f"the format {value!r} is not enforced")
        else:
            yield Finding(place.pointer, keyword, "enforced")


def _finding(problem: SchemaError, pointer: str, keyword: str) -> Finding:
    status: Status = "refused" if isinstance(problem, UnsupportedSchema) else "malformed"
    return Finding(pointer, keyword, status, problem.message)


def _warnings(place: Place, schema: dict[str, Any]) -> Iterator[Warning]:
    if place.draft <= 7 and "$ref" in schema:
        return
    kinds = schema.get("type")
    types = kinds if isinstance(kinds, list) else [kinds]
    if "string" in types and not schema.keys() & {"maxLength", "enum", "const", "pattern", "format", "x-stemma-format"}:
        yield Warning(place.pointer, "a string without maxLength may run on until the token limit")
    if "array" in types and not schema.keys() & {"maxItems", "enum", "const"} and not _is_closed(schema, place.draft):
        yield Warning(place.pointer, "an array without maxItems may run on until the token limit")
    if "object" in types and not schema.keys() & {
        "additionalProperties",
        "unevaluatedProperties",
        "enum",
        "const",
        "$ref",
    }:
        yield Warning(place.pointer, "an object without additionalProperties: false may have any other members")


def _contradictions(place: Place, schema: dict[str, Any], options: SchemaOptions) -> Iterator[Warning]:
    for fact in text_facts(place, schema, options):
        if isinstance(fact, Format) and fact.beside is not None and contradicts(fact.name, fact.beside):
            message = f"no text has both the format {fact.name!r} and the pattern beside it: the pattern counts"
            yield Warning(place.pointer, message)


def _is_closed(schema: dict[str, Any], draft: int) -> bool:
    """Whether only the items of a prefix can stand in the array."""
    return schema.get("items" if draft >= 2020 and "prefixItems" in schema else "additionalItems") is False
