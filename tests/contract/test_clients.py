"""Clients in environments of their own (see environments.py); each is left out where its environment is not made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Served
from tests.contract.environments import NPM, NPM_PROGRAMS, PROGRAMS, interpreter

CLIENTS = Path(__file__).parent / "clients"
PATIENCE = 600.0
"""Seconds for a client's program: some import torch, some start processes of their own."""


@pytest.mark.parametrize(("place", "name"), [(place, name) for place, names in PROGRAMS.items() for name in names])
def test_a_client(served: Served, place: str, name: str, tmp_path: Path) -> None:
    if not interpreter(place).exists():
        pytest.skip(f"{name} is not installed: python tests/contract/environments.py {place}")
    quiet = {"ANONYMIZED_TELEMETRY": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "true"}  # nothing is sent to their makers
    done = subprocess.run(
        [interpreter(place), CLIENTS / f"{name}_client.py", served.url, served.key, served.model],
        cwd=tmp_path, env={**os.environ, **quiet}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.rstrip().endswith("ok")


def run_node(name: str, served: Served) -> Any:
    """What an npm client's program says."""
    if shutil.which("node") is None or not (NPM / "node_modules").exists():
        pytest.skip("the npm clients are not installed: python tests/contract/environments.py npm")
    shutil.copy(NPM_PROGRAMS / name, NPM)  # a module is looked for from where the program lies
    done = subprocess.run(
        ["node", name, served.base, served.key, served.model],
        cwd=NPM, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout)


def test_openai_npm(served: Served) -> None:
    report = run_node("openai.mjs", served)
    assert report["chat"]
    assert report["stream"]
    assert report["parsed"]["name"] in ("Paris", "Rome")
    assert report["tool"] == "weather"
    assert report["response"]


def test_vercels_ai_sdk(served: Served) -> None:
    report = run_node("vercel.mjs", served)
    for name in ("compatible", "chat", "responses"):
        said = report[name]
        assert said["text"]
        assert said["stream"]
        assert {said["object"]["name"], said["streamedObject"]["name"]} <= {"Paris", "Rome"}
        assert said["tool"] == said["streamedTool"] == "sunny"
    assert report["completion"]["text"]
    assert report["completion"]["stream"]


def test_langchain_npm(served: Served) -> None:
    report = run_node("langchain.mjs", served)
    assert report["text"]
    assert report["stream"]
    assert {report["schema"]["name"], report["calling"]["name"]} <= {"Paris", "Rome"}
    assert report["tool"] == {"city": "Paris"}


def test_anthropic_npm(served: Served) -> None:
    report = run_node("anthropic.mjs", served)
    assert report["text"]
    assert report["stream"]
    assert report["stop"] in ("end_turn", "max_tokens")
    assert report["parsed"]["name"] in ("Paris", "Rome")
    assert set(report["called"]) <= {"Paris", "Rome"}
    assert len(report["called"]) >= 2
    assert report["count"] > 0
    assert served.model in report["models"]
    assert report["error"] == [404, "NotFoundError", True]


def test_vercels_ai_sdk_over_anthropics_api(served: Served) -> None:
    report = run_node("vercel_anthropic.mjs", served)
    assert report["text"]
    assert report["stream"]
    assert report["input"] > 0
    assert {report["object"]["name"], report["streamedObject"]["name"]} <= {"Paris", "Rome"}
    assert report["tool"] == report["streamedTool"] == "sunny"
    assert report["steps"] in (1, 2)
    assert report["cached"]


def test_ollamas_npm_and_vercels_provider(served: Served) -> None:
    report = run_node("ollama.mjs", served)
    own, vercel = report["own"], report["vercel"]
    assert own["whole"] == own["stream"]
    assert own["object"]["name"] in ("Paris", "Rome")
    assert own["text"]
    assert (own["models"], own["vectors"]) == ([f"{served.model}:latest"], 2)
    assert vercel["text"] == vercel["stream"]
    assert {vercel["object"]["name"], vercel["streamedObject"]["name"]} <= {"Paris", "Rome"}
    assert vercel["tool"] == vercel["streamedTool"] == "sunny"
    assert vercel["vectors"] == 2
