"""A dry run of a program: the prefix tree that its requests will make, and what keeps them from sharing more."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from stemma.lang.programs.dry import ANSWER, DryBackend
from stemma.lang.programs.lints import (
    Lint,
    lint_parameters,
    lint_siblings,
    lint_spaces,
    lint_times,
    lint_unsteady,
    shared_prefix,
)
from stemma.lang.programs.placeholder import placeholder

MAX_TEXT = 56


@dataclass(slots=True)
class PlanNode:
    """A text that `num_requests` requests have in common, behind its parent's."""

    text: str
    num_requests: int
    children: list[PlanNode] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run will ask. Sizes are in characters: a token of English is about four of them.

    num_asked: of all prompts. num_computed: of these, what is left if everything that is shared is computed once.
    num_common: of the beginning that every run has in common, whatever its inputs.
    """

    name: str
    num_requests: int
    num_asked: int
    num_computed: int
    num_common: int
    roots: list[PlanNode]
    lints: list[Lint]

    def __str__(self) -> str:
        saved = 100 * (1 - self.num_computed / self.num_asked) if self.num_asked else 0
        head = (
            f"{self.name}: {self.num_requests} requests; prompts of {self.num_asked} characters, {self.num_computed} "
            f"computed ({saved:.0f} % shared in a run); {self.num_common} shared by all runs"
        )
        lines = [line for root in self.roots for line in _draw(root, "")]
        remarks = [f"! {lint.rule}: {lint.message}" for lint in self.lints]
        return "\n".join([head, *lines, *remarks])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def make_plan(
    name: str, asked: Sequence[str], spoken: Sequence[str], again: Sequence[str], parameters: dict[str, str]
) -> Plan:
    """asked: the prompts of all requests. spoken: of those where the model goes on. again: `asked` of a second run."""
    roots = _tree(list(asked))
    computed = sum(len(node.text) for node in _walk(roots))
    whole = list(dict.fromkeys(asked))
    starts = [at for text in parameters.values() for prompt in whole if (at := prompt.find(text)) >= 0]
    starts += [at for prompt in whole if (at := prompt.find(ANSWER)) >= 0]
    siblings = [lint for node in _walk(roots) for lint in lint_siblings([_whole(child) for child in node.children])]
    varying = {**parameters, ANSWER: ANSWER}
    lints = [
        *lint_parameters(whole, parameters),
        *lint_times(whole, varying),
        *lint_unsteady(asked, again),
        *siblings,
        *lint_spaces(spoken),
    ]
    common = len(shared_prefix([prompt[: min(starts, default=None)] for prompt in whole])) if whole else 0
    return Plan(name, len(asked), sum(map(len, asked)), computed, common, roots, list(dict.fromkeys(lints)))


def bound_parameters(body: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The parameters behind the state by name; types become placeholders, and what is not given its default or one."""
    signature = inspect.signature(body)
    _, *rest = signature.parameters
    bound = signature.bind_partial(None, *args, **kwargs).arguments
    hints = typing.get_type_hints(body)
    values: dict[str, Any] = {}
    for name in rest:
        default = signature.parameters[name].default
        if name in bound:
            values[name] = placeholder(bound[name], name) if _is_type(bound[name]) else bound[name]
        elif default is inspect.Parameter.empty:
            values[name] = placeholder(hints.get(name, str), name)
    return values


def texts_of(values: dict[str, Any]) -> dict[str, str]:
    """Those parameters whose text can be found again in a prompt."""
    return {name: value for name, value in values.items() if isinstance(value, str) and len(value) > 2}


def _is_type(value: Any) -> bool:
    return isinstance(value, type | types.GenericAlias | types.UnionType) or typing.get_origin(value) is not None


def text_of(backend: DryBackend, prompt: Sequence[int]) -> str:
    """A prompt as text; turns begin on lines of their own."""
    return backend.tokenizer.decode(prompt)


def _tree(prompts: list[str]) -> list[PlanNode]:
    """The radix tree of texts: siblings begin with different characters."""
    groups: dict[str, list[str]] = {}
    for prompt in prompts:
        if prompt:
            groups.setdefault(prompt[0], []).append(prompt)
    nodes = []
    for group in groups.values():
        shared = shared_prefix(group)
        nodes.append(PlanNode(shared, len(group), _tree([prompt[len(shared) :] for prompt in group])))
    return nodes


def _walk(nodes: Sequence[PlanNode]) -> Iterator[PlanNode]:
    for node in nodes:
        yield node
        yield from _walk(node.children)


def _whole(node: PlanNode) -> str:
    """The node's text with that of its largest path."""
    longest = max((_whole(child) for child in node.children), key=len, default="")
    return node.text + longest


def _draw(node: PlanNode, indent: str) -> Iterator[str]:
    line = node.text.replace("\n", "⏎")
    if len(line) > MAX_TEXT:
        line = f"{line[: MAX_TEXT // 2]} … {line[-MAX_TEXT // 2 :]}"
    shared = f" *{node.num_requests}" if node.num_requests > 1 else ""
    yield f"{indent}{len(node.text):>6}{shared:<5} “{line}”"
    for child in node.children:
        yield from _draw(child, indent + "  ")
