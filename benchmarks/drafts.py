"""The real model with drafts and without: work done again, answers that quote, and answers that nobody can guess.

    python benchmarks/drafts.py [--json FILE] [--rounds 7] [--cases again agent quotes nothing model bytes]

Both engines stand in this process, on the same weights, and take turns; `ours` and `peer` are medians over the rounds,
`ratio` is the median of each round's own (seconds with drafts over seconds without: less is better). Decoding alone is
timed, from the first token on, where prompts are new; whole requests where all of them are cached. Every output is
compared with that without drafts, token for token.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from read_bandwidth import Reader

import stemma
from stemma.kernels.ops import Ops
from stemma.runtime.core.step_cost import Load
from stemma.runtime.engine import Completion
from stemma.runtime.model import LoadedModel
from stemma.runtime.model.load import assemble, read_checkpoint
from stemma.runtime.model.pull import default_model

TOPICS = ("the printing press", "the lighthouse", "the bicycle", "the potato", "the telegraph", "the compass", "glass")
DOCUMENT = (
    "Chapter {n}: {topic}. The council of the town of Aldmoor met on the third of March to speak about {topic}. "
    "The mayor, Harriet Bell, said that the plan would cost four hundred thousand pounds over five years. The "
    "baker Tomas Lind answered that no money was left since the bridge had been repaired. A teacher asked whether "
    "children would be allowed to use {topic} after school. The council voted nine to four in favour of the plan, "
    "and asked the engineer Priya Nair to write a report before the end of June. The report will be read in the "
    "library, which is open on weekdays from ten until six."
)
NUM_STEPS = 20


class Measured(NamedTuple):
    """Seconds of one round, and what came."""

    seconds: float
    completions: list[Completion]


Work = Callable[[stemma.Engine, int], Measured]


def timed(engine: stemma.Engine, prompts: list[list[int]], **options: Any) -> Measured:
    """Whole requests."""
    started = time.perf_counter()
    made = engine.generate(prompts, ignore_eos=True, **options)
    return Measured(time.perf_counter() - started, made)


def decoding(engine: stemma.Engine, prompt: list[int], **options: Any) -> Measured:
    """From the first token on."""
    made = engine.generate(prompt, **options)
    return Measured(made.timing.total - made.timing.ttft, [made])


def again(engine: stemma.Engine, round_: int) -> Measured:
    """An answer is asked for once more."""
    prompt = engine.tokenizer.encode_prompt(f"Write a long story about {TOPICS[0]}.\n")
    return timed(engine, [prompt], max_tokens=192, temperature=0)


def again_in_a_batch(engine: stemma.Engine, round_: int) -> Measured:
    prompts = [engine.tokenizer.encode_prompt(f"{n}. Write a story about {TOPICS[n % 7]}.\n") for n in range(8)]
    return timed(engine, prompts, max_tokens=96, temperature=0)


def agent(engine: stemma.Engine, round_: int) -> Measured:
    """Twenty steps: what was said before, an observation, an answer; the same run each round."""
    history = engine.tokenizer.encode_prompt("You are an agent that looks after a library. Say what you do next.\n")
    seconds, completions = 0.0, []
    for step in range(NUM_STEPS):
        seen = f"\nObservation {step}: shelf {step * 7 % 11} of room {step % 3} has {step * 5} books.\nAction:"
        history += engine.tokenizer.encode(seen)
        done = timed(engine, [history], max_tokens=48, temperature=0)
        seconds += done.seconds
        completions += done.completions
        history += done.completions[0].tokens
    return Measured(seconds, completions)


def quotes(engine: stemma.Engine, round_: int) -> Measured:
    """A summary that is begun with a quotation; each round another document, so that nothing of it is in the tree."""
    return _told(
        engine, round_, "A summary that quotes the text word for word:\nThe council of the town of Aldmoor met", 80
    )


def edit(engine: stemma.Engine, round_: int) -> Measured:
    """The text with a name changed."""
    order = "The same text, with Tomas Lind called Tomas Berg:\n\nChapter {n}: {topic}. The council"
    return _told(engine, round_ + 500, order, 110)


def _told(engine: stemma.Engine, number: int, order: str, max_tokens: int) -> Measured:
    text = f"Text: {DOCUMENT}\n\n{order}".format(n=number, topic=TOPICS[number % len(TOPICS)])
    return decoding(engine, engine.tokenizer.encode_prompt(text), max_tokens=max_tokens, temperature=0)


def nothing(engine: stemma.Engine, round_: int) -> Measured:
    """Each token is drawn from nearly all of the vocabulary."""
    prompt = engine.tokenizer.encode_prompt(f"Write number {round_} of your strange poems.\n")
    return decoding(engine, prompt, max_tokens=192, temperature=3.0, seed=round_, ignore_eos=True)


def free_text(engine: stemma.Engine, round_: int) -> Measured:
    """Drawn as people draw."""
    prompt = engine.tokenizer.encode_prompt(f"Chapter {round_}. It was a cold morning in {TOPICS[round_ % 7]} street")
    return decoding(engine, prompt, max_tokens=192, temperature=1.0, seed=round_, ignore_eos=True)


CASES: dict[str, tuple[tuple[str, Work], ...]] = {
    "again": (("regenerate", again), ("regenerate, 8 at once", again_in_a_batch)),
    "agent": ((f"an agent's {NUM_STEPS} steps run again", agent),),
    "quotes": (("a summary that quotes", quotes), ("an edit", edit)),
    "nothing": (("nothing can be guessed", nothing), ("free text, temperature 1", free_text)),
}


def in_turn(work: Work, ours: stemma.Engine, peer: stemma.Engine, rounds: int) -> Iterator[tuple[Measured, Measured]]:
    """Round 0 warms both; then they take turns, and turns about."""
    for round_ in range(rounds + 1):
        if round_ % 2:
            pair = work(ours, round_), work(peer, round_)
        else:
            second, first = work(peer, round_), work(ours, round_)
            pair = first, second
        one, other = ([made.tokens for made in each.completions] for each in pair)
        assert one == other, "tokens differ with drafts"
        if round_:
            yield pair


def row(case: str, metric: str, pairs: list[tuple[float, float]], peer_name: str) -> dict[str, Any]:
    ours, peer = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    ratio = statistics.median(one / other for one, other in pairs)
    print(
        f"{case:36}{metric:10}{ours:9.4f}{peer:9.4f}  {peer_name:28} ratio {ratio:.3f} ({1 / ratio:.2f} times as fast)"
    )
    return {"case": case, "metric": metric, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ratio}


def measured(case: str, work: Work, ours: stemma.Engine, peer: stemma.Engine, rounds: int) -> dict[str, Any]:
    before = {name: (each.proposed, each.accepted) for name, each in ours.stats().metrics.drafts.items()}
    pairs = [(one.seconds, other.seconds) for one, other in in_turn(work, ours, peer, rounds)]
    made = row(case, "seconds", pairs, "the same engine, no drafts")
    for name, each in ours.stats().metrics.drafts.items():
        proposed, accepted = each.proposed - before[name][0], each.accepted - before[name][1]
        if proposed:
            print(f"{'':36}{name}: {accepted} of {proposed} drafts accepted")
    return made


def of_fewer_layers(source: str | Path, ops: Ops, num_layers: int) -> LoadedModel:
    """The first layers of a model, which guess as what they are: a poor model of the same vocabulary."""
    whole = read_checkpoint(source)
    config = replace(whole.config, num_layers=num_layers, layers=whole.config.layers[:num_layers])
    left_out = {f"model.layers.{number}." for number in range(num_layers, whole.config.num_layers)}
    tensors = {name: each for name, each in whole.tensors.items() if not any(map(name.startswith, left_out))}
    return assemble(replace(whole, config=config, tensors=tensors), ops)


def with_a_model(ours: stemma.Engine, peer: stemma.Engine, source: str | Path, rounds: int) -> list[dict[str, Any]]:
    """Draft models without any other source: one that is always right and costs as much as the model, and one of its
    first layers. Neither pays, so the figures say what it costs to find that out."""
    rows = []
    few = max(1, ours.loaded.config.num_layers // 5)
    drafts = {"itself": ours.loaded, f"its first {few} layers": of_fewer_layers(source, ours.loaded.model.ops, few)}
    for name, draft in drafts.items():
        with stemma.Engine.of(ours.loaded, draft, kv_tokens=32_768, drafts_from=("none",)) as drafted:
            rows.append(measured(f"a draft model: {name}", free_text, drafted, peer, rounds))
            rows.append(measured(f"a draft model: {name}, greedy", again, drafted, peer, rounds))
    return rows


def by_bytes(engine: stemma.Engine) -> None:
    """What a pair of models would give that are bound by the bytes of their weights: a step of either takes as long as
    reading them. Tokens for the time, over a step of one token without drafts."""
    bandwidth = max(Reader(os.cpu_count() or 1).bytes_a_second() for _ in range(5))
    model, draft = 4.9e9, 0.4e9  # bytes of an 8B and of a 0.5B in Q4_K_M
    for round_ in range(8):  # so that it is known what rows cost
        again(engine, round_)
    cost = engine.with_scheduler(lambda scheduler: scheduler.drafter.cost)
    one_row = cost.seconds(Load(0, 1))
    one, guess = model / bandwidth * 1e3, draft / bandwidth * 1e3
    print(f"\n8B with a 0.5B, both of 4 bits, {bandwidth / 1e9:.1f} GB/s: {one:.0f} ms a token, {guess:.0f} ms a guess")
    print("rows are free | rows cost what they do here       (times as fast, at the best number of drafts)")
    for share in (0.5, 0.6, 0.7, 0.8, 0.9):
        best = []
        for rows_cost in (lambda rows: 1.0, lambda rows: cost.seconds(Load(0, rows)) / one_row):
            gains = {
                count: sum(share**at for at in range(count + 1)) / (rows_cost(count + 1) + count * draft / model)
                for count in range(13)
            }
            count = max(gains, key=gains.__getitem__)
            best.append(f"{gains[count]:.2f} with {count:2d} drafts")
        print(f"{share:.0%} accepted: {'  |  '.join(best)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", help="a .gguf file, a folder or a hub id; by default the one of `stemma pull`")
    parser.add_argument("--cases", nargs="+", default=[*CASES, "model", "bytes"], choices=[*CASES, "model", "bytes"])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with stemma.Engine(options.model, kv_tokens=32_768) as ours:
        peer = stemma.Engine.of(ours.loaded, kv_tokens=32_768, drafts_from=("none",))
        for name in options.cases:
            if name == "model":
                rows += with_a_model(ours, peer, options.model or default_model(None), options.rounds)
            if name == "bytes":
                by_bytes(ours)
            for case, work in CASES.get(name, ()):
                rows.append(measured(case, work, ours, peer, options.rounds))
        peer.close()
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
