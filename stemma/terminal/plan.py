"""`stemma plan` for people: three tables, and one line of what to do."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from stemma.runtime.planning import Bound, DraftPlan, Plan

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def show(plan: Plan) -> Group:
    """KV and memory, the roofline, and the verdict."""
    return Group(
        _weights(plan),
        *([] if plan.draft is None else [f"draft {_weights(plan.draft)}"]),
        "",
        _memory(plan),
        "",
        _roofline(plan),
        "",
        *_verdict(plan),
    )


def _weights(plan: Plan | DraftPlan) -> str:
    said = f"{plan.parameters / 1e6:,.0f}M parameters, {as_bytes(plan.stored_bytes)} as stored"
    if plan.weight_bytes != plan.stored_bytes:
        said += f", {as_bytes(plan.weight_bytes)} on the device"
    return f"[bold]{escape(plan.model)}[/]: {said}"


def _memory(plan: Plan) -> Table:
    table = Table("memory", "", "", box=None)
    table.add_row("KV of a token", as_bytes(plan.kv_bytes), plan.formula)
    if plan.mark_bytes:
        table.add_row("of a mark", as_bytes(plan.mark_bytes), "windows and states, to go on from one position")
    asked = f"{plan.concurrency} x {plan.context:,} tokens, nothing shared"
    table.add_row("KV of these sequences", as_bytes(plan.needed), asked)
    table.add_row("the pool by these options", as_bytes(plan.pool), f"{plan.pool_tokens:,} tokens")
    if plan.draft is not None:
        table.add_row("KV of a token, draft", as_bytes(plan.draft.kv_bytes), plan.draft.formula)
        table.add_row("KV of these, draft", as_bytes(plan.draft.needed), f"of at most {as_bytes(plan.draft.most)}")
        table.add_row("its pool", as_bytes(plan.draft.pool), f"{plan.draft.pool_tokens:,} tokens")
    steps = f"of {plan.steps.max_batch_tokens:,} tokens, {plan.steps.max_chunk:,} of one prompt"
    table.add_row("steps", f"{plan.steps.max_running:,}", f"sequences at most, {steps}")
    table.add_row("usable memory", as_bytes(plan.usable), "all weights and KV together")
    table.add_row("fit beside the weights", f"{plan.most_sequences:,}", f"sequences of {plan.context:,} tokens")
    table.add_row("", f"{plan.longest:,}", f"tokens of context for {plan.concurrency} sequences")
    return table


def _roofline(plan: Plan) -> Table:
    title = f"at {plan.rates.read / 1e9:,.1f} GB/s of weights and {plan.rates.operations / 1e9:,.0f} GOP/s"
    table = Table("roofline", "at best", "bound by", title, box=None)
    for name, bound, tokens in (
        ("decode, one", plan.decode_one, 1),
        (f"decode, {plan.concurrency} together", plan.decode, plan.concurrency),
        (f"prefill of {plan.context:,}", plan.prefill, plan.context),
    ):
        table.add_row(name, f"{tokens / bound.seconds:,.0f} tokens/s", bound.by, _times(bound))
    table.add_row(
        "balance", f"{plan.balance:,.0f} rows", "", "of a step, below which reading the weights is what takes time"
    )
    return table


def _times(bound: Bound) -> str:
    return f"reads {_duration(bound.read_seconds)}, multiplies {_duration(bound.operation_seconds)}"


def _verdict(plan: Plan) -> list[str]:
    if not plan.fits:
        return [
            f"[red]Does not fit[/]: {as_bytes(plan.takes)} are needed, "
            f"{as_bytes(plan.usable)} can be had. {_what_fits(plan)}"
        ]
    if not plan.holds_pool:
        return [
            f"[red]The pool does not fit[/]: beside the weights it takes {as_bytes(plan.pool)}{_of_draft(plan.draft)}. "
            "Lower --kv-tokens or --memory, or leave them out."
        ]
    if plan.lacks:
        flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in plan.lacks.items())
        return [
            f"[yellow]Fits the machine, not these options[/]: give {flags} to have all of them run at once. With less "
            "sequences wait or are preempted, and shared prefixes are stored once."
        ]
    return ["[green]Fits[/]: what the pool has beyond this keeps prefixes for later requests."]


def _of_draft(draft: DraftPlan | None) -> str:
    return "" if draft is None else f", and the draft model's {as_bytes(draft.pool)}"


def _what_fits(plan: Plan) -> str:
    fits = [f"{plan.most_sequences:,} sequences of this context"] * (plan.most_sequences > 0)
    fits += [f"{plan.longest:,} tokens of context"] * (plan.longest > 0)
    if not fits:
        return "Take a smaller model, or a machine with more memory."
    return f"Ask for at most {', or '.join(fits)}."


def as_bytes(number: float) -> str:
    """Such as 22.5 KiB."""
    unit = 0
    while number >= 1024 and unit < len(UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:,.0f} {UNITS[unit]}" if unit == 0 or number >= 100 else f"{number:,.1f} {UNITS[unit]}"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:,.1f} s"
        if seconds >= 1
        else f"{seconds * 1000:,.2g} ms"
        if seconds < 0.01
        else f"{seconds * 1000:,.0f} ms"
    )
