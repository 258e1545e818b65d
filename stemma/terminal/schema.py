"""`stemma schema lint`: what becomes of a schema's keywords, and what its automaton costs and forces."""

from __future__ import annotations

import importlib
import json
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Group
from rich.table import Table

from stemma.fsm import CompiledGrammar, FormError, Matcher, Vocabulary, compile
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.forms import form_of
from stemma.fsm.languages.lint import LintReport
from stemma.runtime.engine.grammars import make_vocabulary
from stemma.runtime.errors import StemmaError
from stemma.runtime.model.load import read_checkpoint
from stemma.runtime.model.pull import default_model
from stemma.runtime.model.text.tokenizer import Tokenizer
from stemma.terminal.progress import progress

COLOURS = {"enforced": "green", "annotated": "yellow", "refused": "red", "malformed": "red"}
NUM_WALKS = 20
LONGEST_WALK = 1000


class SchemaError(StemmaError):
    """What was given is no schema."""


class Costs(NamedTuple):
    """compile_ms: milliseconds to the first mask, with the tables of the vocabulary at hand. num_states: configurations
    met on random walks. forced_share: tokens of the walks that the model was not asked for."""

    compile_ms: float
    num_states: int
    forced_share: float


def read_schema(source: str) -> JSONSchema:
    """A schema from a file, or from a type. Raises SchemaError."""
    path = Path(source)
    if path.is_file():
        try:
            return JSONSchema(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise SchemaError(f"{path} is not JSON: {error}") from error
    module, _, name = source.partition(":")
    if not name:
        raise SchemaError(f"there is no file {source}; give a JSON file, or module:Type")
    try:
        sys.path.insert(0, str(Path.cwd()))
        spec = form_of(getattr(importlib.import_module(module), name)).spec
    except (ImportError, AttributeError, FormError) as error:
        raise SchemaError(f"{source} cannot be used: {error}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(spec, JSONSchema):
        raise SchemaError(f"{source} is generated as plain text, not as JSON; there is no schema to look at")
    return spec


def measure(spec: JSONSchema, vocabulary: Vocabulary) -> Costs:
    """Compile, then walk at random: the same schema always gives the same walks."""
    _first_mask(compile(spec.grammar(), vocabulary))  # tables of the vocabulary are made once
    started = time.perf_counter()
    grammar = compile(spec.grammar(), vocabulary)
    _first_mask(grammar)
    compile_ms = (time.perf_counter() - started) * 1000
    chance = random.Random(0)
    num_tokens = num_forced = 0
    for _ in range(NUM_WALKS):
        tokens, forced = _walk(grammar, chance)
        num_tokens, num_forced = num_tokens + tokens, num_forced + forced
    return Costs(round(compile_ms, 2), grammar.automaton.num_configurations, round(num_forced / max(num_tokens, 1), 3))


def _first_mask(grammar: CompiledGrammar) -> None:
    Matcher(grammar).mask_into(np.zeros(grammar.vocabulary.num_words, dtype=np.uint32))


def _walk(grammar: CompiledGrammar, chance: random.Random) -> tuple[int, int]:
    """Tokens of one random output, and how many of them were forced."""
    matcher, num_tokens, num_forced = Matcher(grammar), 0, 0
    row = np.zeros(grammar.vocabulary.num_words, dtype=np.uint32)
    while not matcher.is_finished and num_tokens < LONGEST_WALK:
        for token in matcher.forced().tokens:
            matcher.advance(token)
            num_tokens, num_forced = num_tokens + 1, num_forced + 1
        if matcher.is_finished:
            break
        matcher.mask_into(row)
        allowed = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))
        matcher.advance(int(chance.choice(allowed)))
        num_tokens += 1
    return num_tokens, num_forced


def vocabulary_of(model: str | None) -> Vocabulary:
    """The tokens of a model, of which only the tokenizer is read."""
    with progress() as report:
        checkpoint = read_checkpoint(model or default_model(report))
    return make_vocabulary(Tokenizer(checkpoint.tokenizer, checkpoint.config.vocab_size), checkpoint.generation.eos_ids)


def as_json(report: LintReport, costs: Costs | None) -> dict[str, Any]:
    """Everything as plain values."""
    return {**asdict(report), "costs": None if costs is None else costs._asdict()}


def show(report: LintReport, costs: Costs | None) -> Group:
    """The findings, the warnings and the costs as tables."""
    table = Table("place", "keyword", "", "note", box=None)
    for finding in report.findings:
        status = f"[{COLOURS[finding.status]}]{finding.status}[/]"
        table.add_row(finding.pointer or "/", finding.keyword, status, finding.note)
    warnings = Table("place", "warning", box=None)
    for warning in report.warnings:
        warnings.add_row(warning.pointer or "/", f"[yellow]{warning.message}[/]")
    parts: list[Any] = [table]
    if report.warnings:
        parts += ["", warnings]
    if costs is not None:
        parts += [
            "",
            f"first mask {costs.compile_ms} ms · {costs.num_states} states on {NUM_WALKS} random walks · "
            f"{costs.forced_share:.0%} of their tokens were forced",
        ]
    return Group(*parts)
