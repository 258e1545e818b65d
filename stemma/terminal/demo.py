"""`stemma demo`: workloads that repeat themselves, run with the cache and without it, and the tree they leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, Field
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table

from stemma.lang.chats.chat import Chat
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine import Completion, Engine
from stemma.terminal.tree import as_json, draw, of_engine

SYSTEM = "You are a helpful assistant. Answer in one short sentence."
HANDBOOK = """The Harbour Lights Handbook, for keepers.
The lighthouse at Cape Merrow stands 41 metres tall and was
first lit in 1868. Its lamp turns once every twelve seconds and can be seen for 22 sea miles. The keeper is Ada
Lindqvist; her deputy is Tomas Reyes. The lamp is lit half an hour before sunset and put out half an hour after
sunrise. In fog the horn sounds for three seconds every thirty seconds. The supply boat is called Petrel; it comes
on Tuesdays and brings oil, bread, letters and books. The oil is kept in the cellar, in six copper tanks of four
hundred litres each. The spare mantles are in the blue cabinet on the second floor. Visitors may climb the tower on
Sundays between ten and four, at most eight at a time, and never in a storm. The cat is called Fresnel, after the
lens. The logbook is written at noon: wind, sea, clouds, ships seen, and the state of the lamp. If the clockwork
stops, turn the lamp by hand and call the deputy with the brass bell. If the glass of the lantern breaks, hang the
red lanterns from the gallery and telegraph the harbour office at Skarholm. The rain water tank holds nine thousand
litres; boil the water in summer. The path to the village follows the cliff and takes forty minutes on foot. The
village has a school, a baker, a smith and an inn called The Anchor. The keeper before Ada was her father, Nils
Lindqvist, who kept the light for thirty-one years and never once missed a lighting.
"""
QUESTIONS = (
    "How tall is the lighthouse?", "When was it first lit?", "Who is the keeper?", "What is the supply boat called?",
    "On which day does the boat come?", "What is the cat called?", "When may visitors climb the tower?",
    "Where are the spare mantles?", "How long is the walk to the village?", "Who was the keeper before Ada?",
)  # fmt: skip
TURNS = ("Name a fruit that is yellow.", "And one that is red?", "Which of the two is sweeter?")
PEOPLE = ("Ada keeps the light at Cape Merrow.", "Tomas, 28, is a sailor.", "Nils was a keeper for 31 years.")
RECORD = "Who is this about? Say in JSON the person's name, the occupation, and whether they live by the sea."
COMPILING = "kernels are compiled, which takes a minute or two, once on this machine"
STORY = "Once upon a time, in a small village by the sea, there lived a"


class Person(BaseModel):
    """What is asked of each of PEOPLE: the model can say nothing else."""

    name: str = Field(max_length=20)
    occupation: Literal["keeper", "sailor", "teacher"]
    lives_by_the_sea: bool


@dataclass(slots=True)
class Part:
    """One workload's outcome."""

    title: str
    seconds: float
    completions: list[Completion] = field(default_factory=list)

    @property
    def usage(self) -> Usage:
        """Of all its requests together."""
        return sum((completion.usage for completion in self.completions), Usage())


def run_parts(llm: Engine, say: Callable[[str], None]) -> list[Part]:
    """All workloads, one after the other, when kernels and tables are warm."""
    say(COMPILING)
    _warm_up(llm)
    parts = []
    for title, work in (
        (f"{len(QUESTIONS)} questions over one handbook, one batch", _questions),
        (f"a chat of {len(TURNS)} turns", _chat),
        (f"{len(PEOPLE)} JSON records of a type", _records),
        ("4 samples of one prompt", _samples),
    ):
        say(title)
        started = time.perf_counter()
        completions = work(llm)
        parts.append(Part(title, time.perf_counter() - started, completions))
    return parts


def _warm_up(llm: Engine) -> None:
    """Have everything compiled and loaded that is so on first use, and leave no trace of it in the cache."""
    llm.generate(HANDBOOK, max_tokens=2, namespace="warm up")
    llm.generate(RECORD, form=Person, max_tokens=96, namespace="warm up")
    llm.with_cache(lambda cache: cache.drop("warm up"))


def _questions(llm: Engine) -> list[Completion]:
    prompts = [f"{HANDBOOK}\nQuestion: {question}\nAnswer:" for question in QUESTIONS]
    return llm.generate(prompts, max_tokens=16, stop=["\n"])


def _chat(llm: Engine) -> list[Completion]:
    chat = Chat(llm, SYSTEM, max_tokens=24)
    replies = []
    for turn in TURNS:
        replies.append(chat.send(turn))
        replies[-1].result()
    return [reply.completion for reply in replies]


def _records(llm: Engine) -> list[Completion]:
    prompts = [f"{RECORD}\nText: {text}\nJSON: " for text in PEOPLE]
    return [answer.completion for answer in llm.generate(prompts, form=Person, max_tokens=96)]


def _samples(llm: Engine) -> list[Completion]:
    return llm.sample(STORY, 4, max_tokens=24, temperature=0.8, seed=7)


def show(cached: list[Part], plain: list[Part], llm: Engine) -> Group:
    """What was said, the tree, and what the cache saved."""
    decode = llm.loaded.tokenizer.decode
    return Group(
        _answers(cached),
        Panel(draw(of_engine(llm.tree(), decode)), title="what the cache holds"),
        _table(cached, plain),
    )


def _answers(parts: list[Part]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 1))
    questions, chat, records, samples = parts
    pairs = [
        *zip(QUESTIONS[:3], questions.completions, strict=False),
        *zip(TURNS, chat.completions, strict=True),
        *zip(PEOPLE, records.completions, strict=True),
        (STORY + " ...", samples.completions[0]),
        ("", samples.completions[1]),
    ]
    for question, completion in pairs:
        table.add_row(f"[dim]{question}[/dim]", completion.text.strip().replace("\n", " "))
    return table


def _table(cached: list[Part], plain: list[Part]) -> Table:
    """One column a workload: where its tokens came from, with the cache and without it."""
    table = Table(title="tokens and seconds, with the cache and without it")
    columns = list(zip([*cached, _sum(cached)], [*plain, _sum(plain)], strict=True))
    for title in ("", "questions", "chat", "records", "samples", "together"):
        table.add_column(title, justify="right" if title else "left")
    for field_name in ("cached", "prefilled", "decoded", "jumped"):
        counts = (getattr(part.usage, f"{field_name}_tokens") for part, _ in columns)
        table.add_row(f"tokens {field_name}", *map(str, counts))
    table.add_row("prefilled without it", *(str(other.usage.prefilled_tokens) for _, other in columns))
    table.add_row("seconds", *(f"{part.seconds:.2f}" for part, _ in columns))
    table.add_row("seconds without it", *(f"{other.seconds:.2f}" for _, other in columns))
    saved = 1 - columns[-1][0].usage.prefilled_tokens / columns[-1][1].usage.prefilled_tokens
    table.caption = f"the cache saved {saved:.0%} of the prompt tokens"
    return table


def _sum(parts: list[Part]) -> Part:
    completions = [completion for part in parts for completion in part.completions]
    return Part("together", sum(part.seconds for part in parts), completions)


def report(cached: list[Part], plain: list[Part], llm: Engine) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "model": llm.loaded.name,
        "with_cache": [_part_json(part) for part in cached],
        "without_cache": [_part_json(part) for part in plain],
        "tree": as_json(llm.tree(), llm.loaded.tokenizer.decode),
    }


def _part_json(part: Part) -> dict[str, Any]:
    return {
        "title": part.title,
        "seconds": round(part.seconds, 3),
        "usage": part.usage._asdict(),
        "texts": [completion.text for completion in part.completions],
    }


def run(llm: Engine, console: Console) -> tuple[list[Part], list[Part]]:
    """The workloads with the cache, then the same without it."""
    with console.status("") as status:
        cached = run_parts(llm, lambda title: status.update(f"with the cache: {title}"))
        with Engine.of(llm.loaded, prefix_cache=False) as other:
            plain = run_parts(other, lambda title: status.update(f"without it: {title}"))
    return cached, plain
