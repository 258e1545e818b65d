"""Commands that a page names exist and take the options that it gives them; so do the places of the server."""

from __future__ import annotations

import ast
import re

import pytest
import typer.main

from stemma.cli import app
from tests.docs.pages import ROOT, Page, pages
from tests.docs.source import trees

OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
SCRIPT = re.compile(r"[\w/]+/\w+\.py\b")
PLACE = re.compile(r"(?<![\w.}/<])/[a-z][\w.]*(?:/[\w{}]+)*(?![\w/])|(?<=`)/(?=`)")
FOREIGN = {  # of pip, llm, mypy; aider, guidellm, EvalScope
    "--extra-index-url", "--no-deps", "--quiet", "--schema", "--strict",
    "--edit-format", "--no-show-model-warnings", "--openai-api-base", "--use-server-token-count", "--tokenizer-path",
}  # fmt: skip
SERVED = ("README.md", "docs/serving.md", "docs/dsl.md", "docs/architecture.md", "docs/howto/dialect.md")
COMMANDS = typer.main.get_command(app)


def command_of(line: str) -> tuple[list[str], object]:
    """The words after `stemma` that name a command, and what they name."""
    here: object = COMMANDS
    taken = []
    for word in line.split():
        if not hasattr(here, "commands") or word not in here.commands:
            break
        here = here.commands[word]
        taken.append(word)
    return taken, here


def options_of(command: object) -> set[str]:
    below = [each for child in getattr(command, "commands", {}).values() for each in options_of(child)]
    return {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {*below, "--help"}


def options_of_script(path: str) -> set[str]:
    """What it gives to `add_argument`, what it imports from beside it included."""
    text = (ROOT / path).read_text("utf-8")
    beside = [
        ROOT / path.rpartition("/")[0] / f"{name}.py" for name in re.findall(r"^(?:from|import) (\w+)", text, re.M)
    ]
    texts = [text, *(other.read_text("utf-8") for other in beside if other.exists())]
    return {option for each in texts for option in re.findall(r'"(--[a-z][\w-]*)"', each)} | {"--help"}


def scripts(text: str) -> list[str]:
    return [path for path in SCRIPT.findall(text) if (ROOT / path).exists()]


def told(page: Page) -> list[str]:
    return [line for line in page.commands if re.match(r"(?:\S+/)?stemma [a-z]", line)]


def test_pages_name_commands_at_all():
    assert sum(len(told(page)) for page in pages()) >= 15


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands(page):
    for line in told(page):
        taken, command = command_of(line.partition(" ")[2])
        assert taken, f"{page.name}: {line}"
        assert not hasattr(command, "commands") or len(taken) == len(line.split("#")[0].split()) - 1, line
        assert set(OPTION.findall(line)) <= options_of(command), f"{page.name}: {line}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_options_of_scripts(page):
    for line in page.commands:
        for path in scripts(line):
            assert set(OPTION.findall(line)) <= options_of_script(path), f"{page.name}: {line}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_options_that_stand_alone(page):
    """They are Stemma's, or those of a script that the page names."""
    known = options_of(COMMANDS).union(FOREIGN, *(options_of_script(path) for path in scripts(page.text)))
    assert {option for span in page.spans for option in OPTION.findall(span)} <= known


def without_names(place: str) -> str:
    return re.sub(r"{[^}]*}", "{}", place)


def places() -> set[str]:
    """Of all that is made by `Endpoint(method, place, ...)`."""
    calls = (node for tree in trees("stemma/server") for node in ast.walk(tree) if isinstance(node, ast.Call))
    texts = (node.args[1] for node in calls if isinstance(node.func, ast.Name) and node.func.id == "Endpoint")
    return {without_names(text.value) for text in texts if isinstance(text, ast.Constant)}


def test_the_table_of_endpoints_has_all_of_them():
    (page,) = (page for page in pages() if page.name == "docs/serving.md")
    section = page.text.partition("## Endpoints")[2].partition("\n## ")[0]
    assert sorted(places() - {without_names(place) for place in PLACE.findall(section)}) == []


@pytest.mark.parametrize("page", [page for page in pages() if page.name in SERVED], ids=lambda page: page.name)
def test_places_of_the_server(page):
    of_the_chat = {"/undo"}
    texts = [re.sub(r"https?://\S+", "", span) for span in page.spans]
    named = {without_names(place) for text in texts for place in PLACE.findall(text)}
    assert sorted(named - places() - of_the_chat) == []
