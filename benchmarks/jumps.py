"""Structured answers of the real model with jump-forward and without: forward passes and seconds.

    python benchmarks/jumps.py [--json OUT] [--rounds 5]

Realistic forms of our own, one sequence at a time and as a batch of eight. Both engines stand in this process, on the
same weights, and take turns; a whole request (greedy) is measured, its prompt cached, medians over the
rounds. Without jumps every token is sampled under its mask. `--show` prints the texts of both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stemma
from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.engine import Completion

MAX_TOKENS = 256


@dataclass(frozen=True)
class Case:
    name: str
    prompt: str
    schema: dict[str, Any]


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def short(limit: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": limit}


CASES = (
    Case(
        "a person",
        "Extract the person as JSON. Text: Ada Lovelace, born 1815 in London, wrote the first program.",
        closed(name=short(30), year_of_birth={"type": "integer", "minimum": 1000, "maximum": 2100},
               place_of_birth=short(20), occupation={"enum": ["scientist", "artist", "politician", "other"]}),
    ),
    Case(
        "a ticket",
        "Classify this ticket as JSON. Ticket: I was charged twice for my subscription in March. Please refund me.",
        closed(category={"enum": ["billing", "technical", "account", "other"]},
               priority={"enum": ["low", "normal", "high", "urgent"]}, requires_human_review={"type": "boolean"},
               customer_sentiment={"enum": ["positive", "neutral", "negative"]}, summary=short(50)),
    ),
    Case(
        "a tool call",
        "Call the tool that answers: what is the weather in Paris tomorrow, in Celsius?",
        closed(tool={"const": "get_weather_forecast"},
               arguments=closed(location=closed(city=short(20), country={"type": "string", "pattern": "^[A-Z]{2}$"}),
                                days_from_now={"type": "integer", "minimum": 0, "maximum": 9},
                                temperature_unit={"enum": ["celsius", "fahrenheit"]})),
    ),
    Case(
        "an order",
        "Write the order as JSON: two coffees and one croissant for Maria, paid by card.",
        closed(customer_name=short(20),
               order_items={"type": "array", "minItems": 2, "maxItems": 2,
                            "items": closed(product_name=short(20),
                                            quantity={"type": "integer", "minimum": 1, "maximum": 99},
                                            unit_price_in_cents={"type": "integer", "minimum": 0, "maximum": 9999})},
               payment_method={"enum": ["cash", "card", "transfer"]}, is_paid={"type": "boolean"}),
    ),
    Case(
        "a review",
        "Rate this essay as JSON. Essay: Bees matter because they pollinate a third of what we eat.",
        closed(scores=closed(**{name: {"type": "integer", "minimum": 1, "maximum": 5}
                                for name in ("clarity", "evidence", "style", "structure", "originality")}),
               strongest_aspect={"enum": ["clarity", "evidence", "style", "structure", "originality"]},
               recommendation={"enum": ["accept", "revise", "reject"]}),
    ),
    Case(
        "contacts",
        "List the contacts as JSON. Text: Maria Silva (maria@example.com) is a nurse. Tom Baker has no address yet.",
        closed(contacts={"type": "array", "minItems": 2, "maxItems": 2, "items": {
            "type": "object",
            "properties": {"full_name": short(20), "email_address": {"anyOf": [short(24), {"type": "null"}]},
                           "occupation": short(16), "labels": {"type": "array", "items": short(12), "maxItems": 2}},
            "required": ["full_name", "email_address"],
            "additionalProperties": False,
        }}),
    ),
)  # fmt: skip


@dataclass
class Measured:
    """One run: how many forward passes, how long, and what came."""

    forward_passes: int
    seconds: float
    completions: list[Completion]


def run(llm: stemma.Engine, case: Case, batch: int) -> Measured:
    prompts = [f"{case.prompt} ({number})\n" if batch > 1 else f"{case.prompt}\n" for number in range(batch)]
    steps, before = llm.stats().metrics.num_steps, time.perf_counter()
    done = llm.generate(prompts, grammar=JSONSchema(case.schema), max_tokens=MAX_TOKENS, temperature=0.0)
    seconds = time.perf_counter() - before
    return Measured(llm.stats().metrics.num_steps - steps, seconds, done)


def checked(case: Case, with_jumps: Measured, without: Measured) -> int:
    """How many texts are the same; every one must be a whole value."""
    for completion in (*with_jumps.completions, *without.completions):
        assert completion.finish_reason == "stop", f"{case.name} did not end: {completion.text}"
        assert list(json.loads(completion.text)) == case.schema["required"], completion.text
    pairs = zip(with_jumps.completions, without.completions, strict=True)
    return sum(one.text == other.text for one, other in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="a .gguf file, a folder or a hub id; by default the one of `stemma pull`")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with stemma.Engine(arguments.model, kv_tokens=16384) as jumping:
        plain = stemma.Engine.of(jumping.loaded, kv_tokens=16384, jump_forward=False)
        for batch in (1, 8):
            for case in CASES:
                rounds = [
                    (run(jumping, case, batch), run(plain, case, batch))
                    if number % 2
                    else tuple(reversed((run(plain, case, batch), run(jumping, case, batch))))
                    for number in range(arguments.rounds + 1)
                ][1:]  # the first round warms grammars and prefixes
                same = checked(case, *rounds[-1])
                name = f"{case.name}, {batch} at once"
                figures = {}
                for metric in ("forward_passes", "seconds"):
                    ours, peer = (statistics.median(getattr(pair[side], metric) for pair in rounds) for side in (0, 1))
                    figures[metric] = ours / peer
                    rows.append({"case": name, "metric": metric, "ours": ours, "peer": peer,
                                 "peer_name": "without jumps", "ratio": ours / peer})  # fmt: skip
                usage = sum((item.usage for item in rounds[-1][0].completions), stemma.Usage())
                print(
                    f"{name:24} passes {rounds[-1][0].forward_passes:4d} / {rounds[-1][1].forward_passes:4d} = "
                    f"{figures['forward_passes']:.2f}   seconds ratio {figures['seconds']:.2f}   "
                    f"{usage.jumped_tokens} of {usage.completion_tokens} tokens jumped, {same} of {batch} texts alike"
                )
                if arguments.show:
                    print(*(f"   {found.completions[0].text}" for found in rounds[-1]), sep="\n")
        plain.close()
    for metric in ("forward_passes", "seconds"):
        ratios = [row["ratio"] for row in rows if row["metric"] == metric]
        print(f"{metric}: median ratio {statistics.median(ratios):.2f}, worst {max(ratios):.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
