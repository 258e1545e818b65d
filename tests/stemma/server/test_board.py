"""The Grafana board in the docs asks for what `/metrics` has: each metric, with the labels by which it is asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stemma.runtime.engine import Engine
from stemma.server import ApiKey, ServerConfig

BOARD = json.loads((Path(__file__).parents[3] / "docs/serving/grafana.json").read_text())
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that a scrape adds, and that of buckets."""
SELECTED = re.compile(r"(stemma_\w+)\{([^}]*)\}")


def queries() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


@pytest.fixture
async def told(engine: Engine, serve_with: Any) -> dict[str, set[str]]:
    """Names of metrics, with their labels."""
    config = ServerConfig(api_keys=(ApiKey("alice", "ka"), ApiKey("root", "kr", is_admin=True)))
    async with serve_with(engine, config) as client:
        await client.post("/v1/completions", key="ka", prompt="x", max_tokens=2)
        text = (await client.http.get("/metrics", headers={"authorization": "Bearer kr"})).text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def test_every_query_asks_for_what_there_is(told: dict[str, set[str]]) -> None:
    asked = [(query, *found) for query in queries() for found in SELECTED.findall(query)]
    assert len(asked) > 40
    for query, name, selector in asked:
        assert name in told, query
        by = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(",")}
        labels = by | set(re.findall(r"(\w+)=", selector))
        assert labels - OF_PROMETHEUS <= told[name], query


def test_nothing_else_is_asked_for() -> None:
    for query in queries():
        rest = re.sub(r"stemma_\w+\{[^}]*\}", "", query)
        assert "stemma_" not in rest, query
        assert query.count("(") == query.count(")")
    for variable in BOARD["templating"]["list"][1:]:
        assert re.search(r"label_values\(stemma_steps_total", variable["query"])


def test_panels_stand_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + right, at["y"] + down) for right in range(at["w"]) for down in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(column for column, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
