"""What is in deploy/ can be read by those it is for, and gives the command options that it has."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer.main

from stemma.cli import app
from stemma.terminal.config_file import read_serve_file

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVE = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
EXTRAS = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
INSTRUCTIONS = {
    "FROM", "ARG", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD",
}  # fmt: skip


def check_command(words: list[str]) -> None:
    """Whether `stemma serve` takes these words."""
    assert Path(words[0]).name == "stemma"
    assert words[1] == "serve"
    context = SERVE.make_context("serve", [word for word in words[2:] if word], resilient_parsing=True)
    assert context.args == []
    known = {flag for each in SERVE.params for flag in (*each.opts, *each.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / "stemma.service")
    return parser


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_the_unit_starts_the_command_and_waits_longer_than_it_takes_to_stop() -> None:
    from stemma.server import ServerConfig

    service = unit()["Service"]
    check_command(shlex.split(service["ExecStart"]))
    assert int(service["TimeoutStopSec"]) > ServerConfig().shutdown_seconds + 3


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_reads_the_unit() -> None:
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(DEPLOY / "stemma.service")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in said.stderr.splitlines() if "stemma" in line and "not executable" not in line]
    assert complaints == []


def test_the_image_runs_the_command() -> None:
    told = dict(instructions())
    check_command([*json.loads(told["ENTRYPOINT"]), *json.loads(told["CMD"])])
    assert {name for name, _ in instructions()} <= INSTRUCTIONS
    assert told["EXPOSE"] in json.loads(told["ENTRYPOINT"])
    assert f":{told['EXPOSE']}/health" in told["HEALTHCHECK"]


def test_the_image_is_of_packages_alone() -> None:
    runs = [words for name, words in instructions() if name == "RUN"]
    assert not any(re.search(r"curl|wget|git clone|apt", words) for words in runs)
    (extras,) = (words.partition("=")[2] for name, words in instructions() if words.startswith("EXTRAS="))
    assert set(extras.split(",")) <= set(EXTRAS)


def test_the_example_of_a_file_is_one() -> None:
    file = read_serve_file(DEPLOY / "server.toml")
    assert file.options["vllm_metric_names"] is True
    commented = re.findall(r"^# (\w+) = ", (DEPLOY / "server.toml").read_text(), re.MULTILINE)
    assert {"ssl_certfile", "otlp"} <= set(commented)
    names = {each.name for each in SERVE.params}
    assert set(commented) - {"sql"} <= names
