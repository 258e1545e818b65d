"""Random schemas over all keywords of 2020-12, from a seed: nested, recursive, often contradictory.

Used by tests/fsm and benchmarks/random_walks.py.
"""

import random
import re
from typing import Any

NAMES = ["a", "b", "kind", "next", "$x", "é", 'q"', "a/b"]
TEXTS = ["", "a", "ab", "b", 'q"', "\\", "é", "😀", "a\nb", "2024-02-29"]
PATTERNS = ["^a", "b$", "^[a-c]{1,3}$", "^(?!a)", r"\d", r"^\w+-\w+$", "^(a|b)*$", "[^a-z]", r"^\S+\s\S+$", "é", "^x-"]
FORMATS = ["date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "uri-reference",
           "iri", "json-pointer", "relative-json-pointer", "uri-template", "nonsense"]  # fmt: skip
BEYOND_DOUBLES = re.compile(rb"[0-9][0-9.]{14}|[0-9][eE][-+]?[0-9]")
"""Numbers that a validator which reads doubles rounds, or sees as 0, before it looks at them."""
TYPES = ["string", "integer", "number", "object", "array", "null", "boolean"]


class Writer:
    """One schema; `sub` gives schemas inside, down to a depth."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.definitions = [f"d{index}" for index in range(chance.choice([0, 0, 1, 2, 3]))]

    def schema(self) -> Any:
        whole = self.sub(4)
        if self.definitions and isinstance(whole, dict):
            whole["$defs"] = {name: self.sub(3) for name in self.definitions}
        return whole

    def one(self, *ways: Any) -> Any:
        return self.chance.choice(ways)

    def often(self, probability: float) -> bool:
        return self.chance.random() < probability

    def sub(self, depth: int) -> Any:
        if self.often(0.04):
            return self.often(0.8)
        if self.definitions and self.often(0.15):
            return {"$ref": f"#/$defs/{self.one(*self.definitions)}"}
        if depth <= 0 or self.often(0.25):
            return self.leaf()
        if self.often(0.3):
            return self.combined(depth)
        found = self.one(self.object, self.object, self.array)(depth)
        return {**found, **self.combined(depth - 1)} if self.often(0.15) else found

    def leaf(self) -> dict[str, Any]:
        kind = self.one(self.text, self.number, self.values, self.type)
        found: dict[str, Any] = kind()
        return found

    def type(self) -> dict[str, Any]:
        return {"type": self.one(*TYPES) if self.often(0.7) else self.chance.sample(TYPES, 2)}

    def text(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "string"} if self.often(0.8) else {}
        if self.often(0.4):
            found["minLength"] = self.one(0, 1, 3)
        if self.often(0.4):
            found["maxLength"] = self.one(1, 3, 8, 40)
        if self.often(0.35):
            found["pattern"] = self.one(*PATTERNS)
        if self.often(0.35):
            found["format"] = self.one(*FORMATS)
        return found

    def number(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": self.one("integer", "number")} if self.often(0.8) else {}
        if self.often(0.5):
            found[self.one("minimum", "exclusiveMinimum")] = self.one(-100, -1.5, 0, 1, 7, 0.001, 1e3)
        if self.often(0.5):
            found[self.one("maximum", "exclusiveMaximum")] = self.one(0, 8, 7.5, 100, 1e6, 12345.678)
        if self.often(0.25):
            found["multipleOf"] = self.one(1, 2, 7, 0.5, 0.25, 10)
        return found

    def value(self, depth: int = 1) -> Any:
        simple = [None, True, False, 0, 1, 1.0, -3, 2.5, 1000.0, *TEXTS]
        if depth and self.often(0.2):
            return [self.value(depth - 1) for _ in range(self.one(0, 1, 2))]
        if depth and self.often(0.2):
            return {self.one(*NAMES): self.value(depth - 1) for _ in range(self.one(0, 1, 2))}
        return self.one(*simple)

    def values(self) -> dict[str, Any]:
        return (
            {"const": self.value()} if self.often(0.4) else {"enum": [self.value() for _ in range(self.one(1, 2, 4))]}
        )

    def object(self, depth: int) -> dict[str, Any]:
        names = self.chance.sample(NAMES, self.one(0, 1, 2, 3))
        found: dict[str, Any] = {"type": "object"} if self.often(0.85) else {}
        found["properties"] = {name: self.sub(depth - 1) for name in names}
        if self.often(0.6):
            found["required"] = self.chance.sample(
                NAMES if self.often(0.1) else names or NAMES, self.one(0, min(1, len(names)))
            )
        if self.often(0.5):
            found["additionalProperties"] = False if self.often(0.7) else self.sub(depth - 2)
        if self.often(0.15):
            found["patternProperties"] = {self.one(*PATTERNS): self.sub(depth - 2)}
        if self.often(0.1):
            found["propertyNames"] = self.text()
        if self.often(0.1):
            found["minProperties"] = self.one(0, 1, 2)
        if self.often(0.1):
            found["maxProperties"] = self.one(1, 2, 4)
        if self.often(0.08):
            found["dependentRequired"] = {self.one(*NAMES): [self.one(*NAMES)]}
        if self.often(0.08):
            found["dependentSchemas"] = {self.one(*NAMES): self.sub(depth - 2)}
        if self.often(0.06):
            found["unevaluatedProperties"] = self.one(False, self.leaf())
        return found

    def array(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "array"} if self.often(0.85) else {}
        if self.often(0.25):
            found["prefixItems"] = [self.sub(depth - 1) for _ in range(self.one(1, 2))]
        if self.often(0.8):
            found["items"] = self.sub(depth - 1)
        if self.often(0.3):
            found["minItems"] = self.one(0, 1, 2)
        if self.often(0.4):
            found["maxItems"] = self.one(1, 2, 5)
        if self.often(0.12):
            found["contains"] = self.leaf()
            if self.often(0.5):
                found["maxContains"] = self.one(1, 3)
            if self.often(0.5):
                found["minContains"] = self.one(0, 1, 2)
        if self.often(0.08):
            found["uniqueItems"] = True
        if self.often(0.05):
            found["unevaluatedItems"] = self.one(False, self.leaf())
        return found

    def combined(self, depth: int) -> dict[str, Any]:
        inner = [self.sub(depth - 1) for _ in range(self.one(1, 2, 2, 3))]
        kind = self.one("allOf", "anyOf", "anyOf", "oneOf", "oneOf", "not", "if")
        if kind == "not":
            return {"not": inner[0]}
        if kind == "if":
            parts = dict(zip(("if", "then", "else"), inner, strict=False))
            return {**parts, **self.leaf()} if self.often(0.5) else parts
        return {kind: inner}


def random_schema(seed: int) -> Any:
    return Writer(random.Random(seed)).schema()
