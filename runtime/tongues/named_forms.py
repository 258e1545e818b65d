"""Forms that have names of their own: what is told to models whose template tells nothing, and what some models write
besides what their templates do."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.tongues.calls import CallForm
from stemma.runtime.tongues.json_arguments import JsonArguments
from stemma.runtime.tongues.keyword_arguments import KeywordArguments
from stemma.runtime.tongues.marks import Marks
from stemma.runtime.tongues.slots import Slot, Slots

PYTHON_TAG = "<|python_tag|>"
CONSTRAIN = "<|constrain|>"


def hermes() -> CallForm:
    """The form of Hermes and Qwen: what models are told here whose template tells none."""
    first = '<tool_call>\n{"name": "'
    end = "}\n</tool_call>"
    return CallForm(
        name="hermes",
        arguments=JsonArguments(),
        first=(first, Slot.NAME, '", "arguments": '),
        again=(f"{end}\n{first}", Slot.NAME, '", "arguments": '),
        last=(end,),
        gap="\n",
    )


TAUGHT = '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'


def taught_form(marks: Marks, told: str) -> CallForm | None:
    """What a model was taught whose template tells tools and writes no calls: known by the tokens it has for them, or
    by what the template tells of Hermes' form."""
    if {"<|tool_call_start|>", "<|tool_call_end|>"} <= marks.specials:  # LFM2
        return CallForm(
            name="keywords",
            arguments=KeywordArguments(),
            first=("<|tool_call_start|>[", Slot.NAME),
            again=(", ", Slot.NAME),
            last=("]<|tool_call_end|>",),
        )
    if {"<|tool_call|>", "<|/tool_call|>"} <= marks.specials:  # Phi 4 mini
        first = '<|tool_call|>[{"name": "'
        return CallForm(
            name="json",
            arguments=JsonArguments(),
            first=(first, Slot.NAME, '", "arguments": '),
            again=('}, {"name": "', Slot.NAME, '", "arguments": '),
            last=("}]<|/tool_call|>",),
        )
    if TAUGHT in told:  # SmolLM 3
        return hermes()
    if "<|tool_call|>" in marks.specials:  # Granite 3
        return CallForm(
            name="json",
            arguments=JsonArguments(),
            first=('<|tool_call|>[{"name": "', Slot.NAME, '", "arguments": '),
            again=('}, {"name": "', Slot.NAME, '", "arguments": '),
            last=("}]",),
        )
    return None


def with_variants(form: CallForm, marks: Marks) -> CallForm:
    """A form that was found, with its name, and with other beginnings that models of this form are known to write."""
    usual = hermes()
    if (form.first, form.last) == (usual.first, usual.last):
        return replace(form, name=usual.name)
    begins = form.first[0]
    if begins == '{"name": "' and PYTHON_TAG in marks.specials:  # Llama 3, where it means code or a call
        return replace(form, name="llama3", variants=((PYTHON_TAG + begins, *form.first[1:]),))
    if begins == " to=functions." and CONSTRAIN in marks.specials:  # harmony, with the recipient in the channel
        variant: Slots = ("<|channel|>commentary to=functions.", Slot.NAME, f" {CONSTRAIN}json<|message|>")
        return replace(form, name="harmony", variants=(variant,))
    return form
