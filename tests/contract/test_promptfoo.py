"""promptfoo, in an npm environment of its own: providers, and answers judged by vectors and by a rubric.

It shares no environment with the other npm clients, as it brings some hundreds of packages with versions of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Served
from tests.contract.environments import PROMPTFOO

PROGRAM = PROMPTFOO / "node_modules" / ".bin" / "promptfoo"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="made by python tests/contract/environments.py promptfoo")


def form(**properties: list[Any]) -> dict[str, Any]:
    """The `response_format` of an object that has these values to choose from."""
    members = {name: {"enum": values} for name, values in properties.items()}
    schema = {"type": "object", "properties": members, "required": [*members], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "form", "strict": True, "schema": schema}}


def provider(kind: str, model: str, label: str, **config: Any) -> dict[str, Any]:
    return {"id": f"openai:{kind}:{model}", "label": label, "config": {"temperature": 0, **config}}


def matrix(model: str) -> dict[str, Any]:
    """What promptfoo is to try, as its configuration files say it."""
    city = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]}
    verdict = form(reason=["fine"], **{"pass": [True]}, score=[1])
    judge = {"id": f"openai:chat:{model}", "config": {"response_format": verdict}}
    polite = {"type": "llm-rubric", "value": "It is polite.", "provider": judge}
    similar = {"type": "similar", "value": "Hello", "threshold": 0, "provider": f"openai:embedding:{model}"}
    return {
        "prompts": ["Say hello to {{name}}."],
        "providers": [
            provider("chat", model, "chat", max_tokens=8),
            provider("completion", model, "completion", max_tokens=8),
            provider("responses", model, "responses", max_output_tokens=8),
            provider("chat", model, "form", response_format=form(name=["Ann"])),
            provider(
                "chat", model, "calls", tool_choice="required",
                tools=[{"type": "function", "function": {"name": "weather", "parameters": city}}],
            ),
        ],
        "tests": [
            {"vars": {"name": "Ann"}},
            {"vars": {"name": "Bob"}, "assert": [similar, polite]},
        ],
    }  # fmt: skip


def test_promptfoo(served: Served, tmp_path: Path) -> None:
    (tmp_path / "matrix.json").write_text(json.dumps(matrix(served.model)))
    quiet = {f"PROMPTFOO_DISABLE_{what}": "1" for what in ("TELEMETRY", "UPDATE", "REMOTE_GENERATION", "SHARING")}
    own = {"PROMPTFOO_CONFIG_DIR": str(tmp_path / "own")}
    where = {"OPENAI_BASE_URL": served.base, "OPENAI_API_KEY": served.key, **own}
    done = subprocess.run(
        [PROGRAM, "eval", "--config", "matrix.json", "--output", "out.json", "--no-cache", "--no-progress-bar"],
        cwd=tmp_path, env={**os.environ, **quiet, **where}, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert (results["stats"]["successes"], results["stats"]["failures"], results["stats"]["errors"]) == (10, 0, 0)
    for result in results["results"]:
        assert result["response"]["tokenUsage"]["completion"] > 0
        output, label = result["response"]["output"], result["provider"]["label"]
        if label == "form":
            assert output == {"name": "Ann"}
        elif label == "calls":
            assert json.loads(output[0]["function"]["arguments"]) == {"city": "Paris"}
        else:
            assert output
