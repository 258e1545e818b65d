"""Writes docs/fields.md: what becomes of each field of each request, from the structs and their rules.

python docs/draw_fields.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import inspect

from stemma.server.anthropic.endpoints import ENDPOINTS as ANTHROPIC
from stemma.server.http.endpoint import Endpoint
from stemma.server.ollama.endpoints import ENDPOINTS as OLLAMA
from stemma.server.openai.endpoints import ENDPOINTS as OPENAI
from stemma.server.pooling.endpoints import ENDPOINTS as POOLING
from stemma.server.sglang.endpoints import ENDPOINTS as SGLANG
from stemma.server.wire.fields import Refused, Rule, Taken, Wire, rules_of

PAGE = Path(__file__).parent / "fields.md"
HEAD = """# The fields of requests

`python docs/draw_fields.py` writes this page from the types of the requests and their rules
(`stemma/server/wire/known.py`, and a dialect's own); a test holds that it is up to date.
`python tests/contract/client_fields.py` reads the types in the newest packages of OpenAI, Anthropic, vLLM, SGLang and
Ollama, and tells which of their fields are not here.

- `null` is "not given", whatever the field.
- **honoured**: it does what its name says.
- **taken**: it cannot change the text, and has no effect; the answer's header `stemma-unused-fields` names it, and the
  log once.
- **only** some values: they say what happens anyhow. Any other would change the answer, and is a 400 that says what to
  do.
- A field that is not here is taken and named like one without effect; with `stemma serve --strict` it is a 400.
"""


def endpoints() -> Iterator[tuple[str, type[Wire]]]:
    """Each path that answers by a model, with the struct of its body."""
    rows: tuple[Endpoint, ...] = (*OPENAI, *ANTHROPIC, *POOLING, *SGLANG, *OLLAMA)
    for row in rows:
        if row.body is not None:
            yield row.path, row.body


def structs(kind: type[Wire], at: str = "") -> Iterator[tuple[str, type[Wire]]]:
    """A struct and those inside it, each with the place where it stands."""
    yield at, kind
    made = inspect.type_info(kind)
    assert isinstance(made, inspect.StructType)
    for field in made.fields:
        for place, inner in inside(field.type, f"{at}{field.encode_name}"):
            yield from structs(inner, f"{place}.")


def inside(kind: Any, at: str) -> Iterator[tuple[str, type[Wire]]]:
    """The structs that a field may have, behind lists and unions."""
    match kind:
        case inspect.UnionType(types=types):
            for one in types:
                yield from inside(one, at)
        case inspect.ListType(item_type=item):
            yield from inside(item, f"{at}[]")
        case inspect.StructType(cls=cls):
            yield at, cls


def told(rule: Rule) -> str:
    """What a rule says, for the table."""
    if isinstance(rule, Taken):
        return f"taken: {rule.why}"
    values = " or ".join(f"`{json.dumps(value)}`" for value in rule.values)
    return f"only {values}; else: {rule.instead}" if values else f"refused: {rule.instead}"


def fields(kind: type[Wire]) -> Mapping[str, str]:
    """Each field of a request, those inside it by their places, and what becomes of it."""
    found: dict[str, str] = {}
    for at, struct in structs(kind):
        if issubclass(struct, Refused):
            found[f"{at}type={struct.__struct_config__.tag}"] = f"refused: {struct.instead}"
            continue
        found |= {f"{at}{name}": "honoured" for name in struct.__struct_fields__}
        found |= {f"{at}{name}": told(rule) for name, rule in rules_of(struct).items() if f"{at}{name}" not in found}
    return found


def page() -> str:
    """All of it. Endpoints that do the same with a field share its row."""
    kinds = {path.removeprefix("/v1"): kind for path, kind in endpoints()}
    rows: dict[tuple[str, str], list[str]] = {}
    for path, kind in kinds.items():
        for name, what in fields(kind).items():
            rows.setdefault((name, what), []).append(path)
    lines = [
        f"| `{name}` | {what} | {'all' if len(paths) == len(kinds) else ', '.join(paths)} |"
        for (name, what), paths in sorted(rows.items())
    ]
    return "\n".join([HEAD, "| field | what becomes of it | where |", "|---|---|---|", *lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
