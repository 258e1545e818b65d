"""Varied JSON schemas of the kinds that people write, each with a valid instance, from a seed.

Six shapes: records, tool calls, API definitions with $defs, events told apart by a property, configurations with maps
and patterns, forms out of allOf and conditions. A part of a schema is drawn together with the value it takes, so an
instance is valid by construction; jsonschema-rs judges in the end all the same. It knows no engine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jsonschema_rs

NOUNS = """
account address agent alert amount answer area article asset attachment author balance batch body branch budget
buffer cache campaign capacity cargo category channel charge city client cluster code color comment company
condition config contact content contract cost country course coupon currency customer deadline delivery
department device discount document domain driver duration email employee endpoint engine entry environment
error event expiry feature feedback field filter folder format gateway genre goal group guest header height
history host image index ingredient input interval invoice item job key label language layer level license limit
line link location log manager marker material member memory message method metric mode model module name
network node note notification number offer option order origin output owner package page parent partner
password path patient payload payment percent period permission phone photo place plan player policy port
position price priority product profile project property protocol provider quality quantity query queue question
rate rating reason receipt recipe record reference region release report request resource response result review
reward role room route rule sample schedule scope score season secret section segment sender sensor series
server service session shape shipment size skill source speaker stage state station status step stock storage
strategy street student subject summary supplier survey symbol table tag target task team template tenant test
theme threshold ticket time title token tool topic total track transaction trigger type unit update user value
vehicle vendor version video view visit volume warehouse weather webhook weight width window worker workspace
zone
""".split()  # noqa: SIM905
ADJECTIVES = "active base billing current default display external final first global initial internal last local main max min next old primary public raw remote secondary shared total valid".split()  # noqa: E501, SIM905
WORDS = "the a of small large quick report about new order was sent to customer with open issues and three more items in stock; please check again before Friday (urgent) it's done".split()  # noqa: E501, SIM905
FORMATS: dict[str, list[str]] = {
    "date": ["2024-02-29", "1999-12-31"], "date-time": ["2024-05-01T12:30:00Z", "2023-11-30T08:15:27.123+02:00"],
    "time": ["08:30:00Z"], "email": ["ann.smith@example.com", "sales@shop.example.org"],
    "uri": ["https://example.com/a/b?q=1#top", "http://api.example.org:8080/v1"], "hostname": ["db-1.example.com"],
    "uuid": ["3f2504e0-4f89-41d3-9a0c-0305e82c3301"], "ipv4": ["192.168.0.12"], "ipv6": ["2001:db8::1"],
    "duration": ["P3DT4H", "PT15M"],
}  # fmt: skip
PATTERNS: list[tuple[str, list[str]]] = [
    (r"^[A-Z]{3}-\d{4}$", ["ABC-1234"]), (r"^[a-z][a-z0-9_]*$", ["worker_7", "main"]),
    (r"^\d{5}(-\d{4})?$", ["90210"]), (r"^#[0-9a-fA-F]{6}$", ["#ff8800"]), (r"^v?\d+\.\d+\.\d+$", ["1.20.3"]),
    (r"^\+?[1-9]\d{7,14}$", ["+4915112345678"]), (r"^[A-Za-z0-9._-]{3,64}$", ["release-2024.1"]),
    (r"^(GET|POST|PUT|DELETE) /[a-z/]*$", ["GET /users/me"]),
    (r"^arn:aws:[a-z0-9]+:[a-z0-9-]*:\d{12}:.+$", ["arn:aws:s3:eu-west-1:123456789012:bucket/key"]),
    (r"^(mon|tue|wed|thu|fri|sat|sun)$", ["thu"]), (r"\S", ["some text"]),
    (r"^[^\s@]+@[^\s@]+\.[a-z]{2,}$", ["a@b.io"]),
    (r"^([01]\d|2[0-3]):[0-5]\d$", ["23:05"]), (r"^[A-Z][a-z]+( [A-Z][a-z]+)*$", ["New York"]),
    (r"^https?://", ["https://example.org"]), (r"^[0-9a-f]{40}$", ["0123456789abcdef0123456789abcdef01234567"]),
]  # fmt: skip
RARE_PATTERN = (r"^(?!tmp_)[a-z_]+$", ["stable_name"])  # few engines look ahead
Schema = dict[str, Any]


class Drawn(NamedTuple):
    """A schema and a value that it takes."""

    schema: Schema
    value: Any


class Writer:
    """Draws one schema; `definitions` are what its references lead to."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.definitions: dict[str, Drawn] = {}
        self.definitions_key = chance.choice(["$defs", "$defs", "definitions"])
        self.casing = chance.choice(["snake", "camel", "camel", "kebab"])
        self.is_described = chance.random() < 0.5
        self.strictness = chance.choice([False, False, None, True])

    # Names and texts -------------------------------------------------------------------------------------------------

    def names(self, number: int) -> list[str]:
        found: dict[str, None] = {}
        while len(found) < number:
            words = [self.chance.choice(NOUNS)]
            if self.often(0.35):
                words.insert(0, self.chance.choice(ADJECTIVES))
            if self.often(0.25):
                words.append(self.chance.choice(("id", "name", "count", "at", "url", "type")))
            found[self.cased(words)] = None
        return list(found)

    def cased(self, words: list[str]) -> str:
        if self.casing == "camel":
            return words[0] + "".join(word.title() for word in words[1:])
        return ("_" if self.casing == "snake" else "-").join(words)

    def sentence(self, least: int = 1, most: int = 12) -> str:
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(least, most)))

    def often(self, probability: float) -> bool:
        return self.chance.random() < probability

    # Values ----------------------------------------------------------------------------------------------------------

    def leaf(self) -> Drawn:
        kinds: list[tuple[Callable[[], Drawn], int]] = [
            (self.text, 30), (self.whole, 14), (self.number, 8), (self.truth, 10), (self.choice_of_texts, 16),
            (self.formatted, 10), (self.patterned, 8), (self.fixed, 3), (self.anything, 2),
        ]  # fmt: skip
        [draw] = self.chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
        drawn = draw()
        if self.is_described and self.often(0.6):
            drawn.schema["description"] = self.sentence(3, 20).capitalize() + "."
        if self.often(0.1):
            return self.nullable(drawn)
        return drawn

    def nullable(self, drawn: Drawn) -> Drawn:
        value = None if self.often(0.3) else drawn.value
        if isinstance(drawn.schema.get("type"), str) and "enum" not in drawn.schema and self.often(0.5):
            return Drawn({**drawn.schema, "type": [drawn.schema["type"], "null"]}, value)
        return Drawn({"anyOf": [drawn.schema, {"type": "null"}]}, value)

    def text(self) -> Drawn:
        schema: Schema = {"type": "string"}
        value = self.sentence()
        if self.often(0.35):
            schema["minLength"] = self.chance.choice([1, 1, 1, 2, 3])
        if self.often(0.3):
            schema["maxLength"] = self.chance.choice([80, 100, 128, 200, 255, 500, 2000])
            value = value[: schema["maxLength"]]
        return Drawn(schema, value if len(value) >= schema.get("minLength", 0) else value + "...")

    def whole(self) -> Drawn:
        schema: Schema = {"type": "integer"}
        low, high = self.chance.choice([(0, 10), (1, 100), (0, 65535), (1, 5), (-90, 90), (1900, 2100), (0, 10**6)])
        if self.often(0.5):
            schema["minimum"] = low
        if self.often(0.35):
            schema["maximum"] = high
        value = self.chance.randint(low, high)
        if self.often(0.06):
            schema["multipleOf"] = 5
            value = max(low - low % -5, value - value % 5)
        return Drawn(schema, value)

    def number(self) -> Drawn:
        schema: Schema = {"type": "number"}
        if self.often(0.4):
            schema[self.chance.choice(["minimum", "exclusiveMinimum"])] = 0
        if self.often(0.25):
            schema["maximum"] = self.chance.choice([1, 100, 1000.5])
            return Drawn(schema, round(self.chance.uniform(0.01, 0.99), 2))
        return Drawn(schema, round(self.chance.uniform(0.01, 5000), self.chance.randint(1, 3)))

    def truth(self) -> Drawn:
        schema: Schema = {"type": "boolean"}
        if self.often(0.3):
            schema["default"] = False
        return Drawn(schema, self.often(0.5))

    def choice_of_texts(self) -> Drawn:
        values = self.names(self.chance.choice([2, 3, 3, 4, 5, 6, 8, 12, 30]))
        if self.often(0.3):
            values = [value.upper() for value in values]
        schema: Schema = {"enum": values}
        if self.often(0.8):
            schema["type"] = "string"
        return Drawn(schema, self.chance.choice(values))

    def fixed(self) -> Drawn:
        value = self.chance.choice([*self.names(1), 1, True, "2.0"])
        return Drawn({"const": value}, value)

    def formatted(self) -> Drawn:
        name = self.chance.choice(list(FORMATS))
        return Drawn({"type": "string", "format": name}, self.chance.choice(FORMATS[name]))

    def patterned(self) -> Drawn:
        source, values = RARE_PATTERN if self.often(0.02) else self.chance.choice(PATTERNS)
        schema: Schema = {"type": "string", "pattern": source}
        if self.often(0.25):
            schema["maxLength"] = 64
        return Drawn(schema, self.chance.choice(values))

    def anything(self) -> Drawn:
        if self.often(0.5):
            return Drawn({}, self.chance.choice([1, "x", None, {"a": [1]}]))
        return Drawn({"type": "object"}, {self.names(1)[0]: self.sentence()})

    # Structures ------------------------------------------------------------------------------------------------------

    def any(self, depth: int) -> Drawn:
        if depth <= 0 or self.often(0.62):
            return self.referred() if self.definitions and self.often(0.25) else self.leaf()
        draw = self.chance.choice([self.record, self.record, self.listing, self.listing, self.mapping, self.either])
        return draw(depth - 1)

    def referred(self) -> Drawn:
        name = self.chance.choice(list(self.definitions))
        return Drawn({"$ref": f"#/{self.definitions_key}/{name}"}, self.definitions[name].value)

    def record(self, depth: int, size: int = 0) -> Drawn:
        parts = {name: self.any(depth) for name in self.names(size or self.chance.choice([1, 2, 3, 3, 4, 5, 6, 8]))}
        share = self.chance.choice([0.0, 0.4, 0.7, 1.0])
        required = [name for name in parts if self.often(share)]
        present = [name for name in parts if name in required or self.often(0.6)]
        schema: Schema = {"type": "object", "properties": {name: part.schema for name, part in parts.items()}}
        if required:
            schema["required"] = self.chance.sample(required, len(required)) if self.often(0.3) else required
        if self.strictness is not None and self.often(0.9):
            schema["additionalProperties"] = self.strictness
        return Drawn(schema, {name: parts[name].value for name in present})

    def listing(self, depth: int) -> Drawn:
        item = self.any(depth)
        schema: Schema = {"type": "array", "items": item.schema}
        values = [item.value] * self.chance.choice([0, 1, 1, 2, 3])
        if self.often(0.3):
            schema["minItems"] = 1
            values = values or [item.value]
        if self.often(0.25):
            schema["maxItems"] = self.chance.choice([3, 5, 10, 100])
        if self.often(0.02):
            schema["uniqueItems"] = True
            values = values[:1]
        return Drawn(schema, values)

    def mapping(self, depth: int) -> Drawn:
        value = self.any(depth)
        if self.often(0.3):
            schema: Schema = {"type": "object", "patternProperties": {"^[a-z_]+$": value.schema}}
            schema["additionalProperties"] = False
            return Drawn(schema, {"first_one": value.value})
        schema = {"type": "object", "additionalProperties": value.schema}
        return Drawn(schema, dict.fromkeys(self.names(self.chance.randint(0, 2)), value.value))

    def either(self, depth: int) -> Drawn:
        ways = [self.any(depth) for _ in range(self.chance.choice([2, 2, 3]))]
        return Drawn({"anyOf": [way.schema for way in ways]}, self.chance.choice(ways).value)

    def tagged(self, depth: int, number: int, keyword: str) -> Drawn:
        """One of several records, told apart by what a property says."""
        tag, *others = self.names(number + 1)
        ways = []
        for name in others:
            record = self.record(depth, self.chance.randint(1, 5))
            # the tag is no name of the record's own: it stands first, and says which record it is
            properties = {tag: {"const": name}} | _without(tag, record.schema["properties"])
            required = [tag, *(each for each in record.schema.get("required", ()) if each != tag)]
            value = {tag: name} | _without(tag, record.value)
            ways.append(Drawn({**record.schema, "properties": properties, "required": required}, value))
        return Drawn({keyword: [way.schema for way in ways]}, self.chance.choice(ways).value)

    def define(self, number: int, depth: int) -> None:
        for name in self.names(number):
            self.definitions[name.title()] = self.chance.choice([self.record, self.record, self.listing])(depth)

    def whole_schema(self, drawn: Drawn) -> Drawn:
        schema = dict(drawn.schema)
        if self.definitions:
            schema[self.definitions_key] = {name: each.schema for name, each in self.definitions.items()}
        if self.often(0.4):
            schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": self.names(1)[0], **schema}
        return Drawn(schema, drawn.value)


def record(writer: Writer) -> Drawn:
    return writer.record(writer.chance.choice([1, 2, 2, 3]), writer.chance.choice([2, 4, 6, 8, 12, 20]))


def tool_call(writer: Writer) -> Drawn:
    """What servers make of tools: a name and its arguments."""
    tools = []
    for name in writer.names(writer.chance.choice([1, 2, 3, 5])):
        arguments = writer.record(1, writer.chance.randint(1, 5))
        properties = {"name": {"const": name}, "arguments": arguments.schema}
        schema = {"type": "object", "properties": properties, "required": ["name", "arguments"]}
        tools.append(Drawn({**schema, "additionalProperties": False}, {"name": name, "arguments": arguments.value}))
    if len(tools) == 1:
        return tools[0]
    value = writer.chance.choice(tools).value
    one: Schema = {"anyOf": [tool.schema for tool in tools]}
    return Drawn({"type": "array", "items": one, "minItems": 1}, [value]) if writer.often(0.5) else Drawn(one, value)


def definitions(writer: Writer) -> Drawn:
    writer.define(writer.chance.randint(2, 6), 1)
    writer.define(writer.chance.randint(1, 4), 2)
    if writer.often(0.4):
        inner = writer.record(1)
        reference = {"type": "array", "items": {"$ref": f"#/{writer.definitions_key}/Node"}}
        inner.schema["properties"]["children"] = reference
        writer.definitions["Node"] = Drawn(inner.schema, {**inner.value, "children": [{**inner.value, "children": []}]})
    return writer.record(2, writer.chance.randint(3, 10))


def events(writer: Writer) -> Drawn:
    one = writer.tagged(2, writer.chance.choice([2, 3, 5, 8]), writer.chance.choice(["oneOf", "anyOf"]))
    return Drawn({"type": "array", "items": one.schema}, [one.value]) if writer.often(0.4) else one


def _without(name: str, members: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key != name}


def configuration(writer: Writer) -> Drawn:
    parts = {name: writer.any(2) for name in writer.names(writer.chance.randint(3, 10))}
    parts[writer.names(1)[0]] = writer.mapping(2)
    schema: Schema = {"type": "object", "properties": {name: part.schema for name, part in parts.items()}}
    if writer.often(0.5):
        schema["patternProperties"] = {"^x-": {}}
    if writer.often(0.6):
        schema["additionalProperties"] = False
    return Drawn(schema, {name: part.value for name, part in parts.items() if writer.often(0.7)})


def composed(writer: Writer) -> Drawn:
    first, second = writer.record(1, 3), writer.record(1, 4)
    for part in (first, second):
        part.schema.pop("additionalProperties", None)
    for name in first.schema["properties"].keys() & second.schema["properties"].keys():
        del second.schema["properties"][name]
    if "required" in second.schema:
        second.schema["required"] = [name for name in second.schema["required"] if name in second.schema["properties"]]
    value = {**second.value, **first.value}
    schema: Schema = {"allOf": [first.schema, second.schema]}
    if writer.often(0.4):
        [tag] = writer.names(1)
        condition = {"properties": {tag: {"const": "on"}}, "required": [tag]}
        schema = {"type": "object", "properties": {tag: {"enum": ["on", "off"]}}, **schema,
                  "if": condition, "then": {"minProperties": 1}}  # fmt: skip
        value = {tag: "on", **value}
    return Drawn(schema, value)


SHAPES: dict[str, Callable[[Writer], Drawn]] = {
    "record": record, "tool call": tool_call, "definitions": definitions, "events": events,
    "configuration": configuration, "composed": composed,
}  # fmt: skip


def cold_schemas(number: int, seed: int) -> Iterator[dict[str, Any]]:
    """`number` lines like those of a file of schemas: `id`, `schema`, one `valid` instance; all different."""
    chance = random.Random(seed)
    done = 0
    while done < number:
        shape = list(SHAPES)[done % len(SHAPES)]
        writer = Writer(random.Random(chance.getrandbits(64)))
        drawn = writer.whole_schema(SHAPES[shape](writer))
        if jsonschema_rs.validator_for(drawn.schema, validate_formats=True).is_valid(drawn.value):
            yield {"id": f"{shape} {done}", "schema": drawn.schema, "valid": [drawn.value]}
            done += 1
