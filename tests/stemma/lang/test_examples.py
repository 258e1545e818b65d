"""The examples: type checkers understand them, and they run on the real model."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_mypy_infers_what_people_write():
    files = [*EXAMPLES.glob("*.py"), Path(__file__).with_name("typing_cases.py")]
    command = [sys.executable, "-m", "mypy", "--strict", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_infers_what_people_write():
    pytest.importorskip("pyright", reason="pyright is not installed: pip install -e '.[contract]'")
    files = [*EXAMPLES.glob("*.py"), Path(__file__).with_name("typing_cases.py")]
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors" in done.stdout


def test_essays_are_judged(real):
    example = load("judge_essays")
    plan = example.judge.plan(essay=str)
    assert plan.lints == []
    assert plan.num_requests == 6
    run = example.judge.run_sync(real, example.ESSAYS[0])
    assert all(0 <= score.score <= 10 for score in run.value.scores)
    assert run.value.grade in ("A", "B", "C")
    prefix, *branches, summary, grade = run.trace.children
    assert len(branches) == len(run.value.scores) == 3
    assert all(branch.total_usage.cached_tokens >= prefix.usage.prompt_tokens - 1 for branch in branches)
    assert summary.usage.cached_tokens >= prefix.usage.prompt_tokens - 1
    assert grade.usage.cached_tokens >= summary.usage.prompt_tokens
    assert run.usage.jumped_tokens > 0  # the keys of the JSON need no model
    runs = example.judge.map(real, example.ESSAYS).result()
    assert [each.error for each in runs] == [None, None]
    assert runs[0].value == run.value


def test_people_are_extracted(real):
    example = load("extract_people")
    said = example.classify(real, example.REVIEWS)
    assert len(said) == len(example.REVIEWS)
    assert set(said) <= {"good", "bad"}
    person = asyncio.run(example.extract(real, example.STORY))
    assert len(person.interests) <= 3


def test_chats_cost_only_their_new_tokens(real, capsys):
    """Of the second turn, and of one behind a saved and loaded chat, only the new message is computed."""
    example = load("support_chats")
    first, second, after_loading = example.talk(real, max_tokens=12)
    num_system = len(real.tokenizer.encode(example.SYSTEM))
    assert first.cached_tokens < num_system
    for usage in (second, after_loading):
        assert usage.cached_tokens > num_system
        assert usage.prefilled_tokens < 30
