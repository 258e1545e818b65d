"""The sandbox that chat templates run in, with the names that templates on the Hugging Face hub expect. What it
renders is `Traced`: it knows what the template wrote itself. Reads nothing but what it is given, except the date."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import filters, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stemma.runtime.model.text.traced import Traced, formatted, joined, written


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %} ... {% endgeneration %}`, which marks answers for training: here it is only its contents."""

    tags = {"generation"}  # noqa: RUF012 (the name and type that jinja2 asks for)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TracingCode(CodeGenerator):
    """Code in which the constants of a template are its own, and `~` joins text as an output does."""

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:
        value = node.as_const(frame.eval_ctx)
        if isinstance(value, str | tuple | list | dict):
            self.write(f"environment.written({value!r})")
        else:
            super().visit_Const(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat(map(str, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")

    def visit_TemplateData(self, node: nodes.TemplateData, frame: Frame) -> None:
        self.write(f"environment.written({node.data!r})")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.written({''.join(group)!r})"


class TracingSandbox(ImmutableSandboxedEnvironment):
    """The sandbox of Jinja, whose text is `Traced`."""

    code_generator_class = TracingCode
    concat = staticmethod(joined)
    written = staticmethod(written)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        formats = super().wrap_str_format(value)
        if formats is None or value.__name__ != "format" or not isinstance(value.__self__, Traced):
            return formats
        return lambda *arguments, **values: formatted(value.__self__, formats(*arguments, **values), arguments, values)


def compile_template(source: str) -> jinja2.Template:
    """A template that renders `Traced`. Raises jinja2.TemplateError if the source is no template."""
    environment = _environment()
    environment.filters["join"] = _join
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(source)


def names_in(source: str) -> frozenset[str]:
    """Names that a template looks at, its own variables among them. Raises jinja2.TemplateError as above."""
    read = _environment().parse(source).find_all(nodes.Name)
    return frozenset(name.name for name in read if name.ctx == "load")


def _environment() -> TracingSandbox:
    return TracingSandbox(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, "jinja2.ext.loopcontrols"])


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None,
    separators: tuple[str, str] | None = None, sort_keys: bool = False,
) -> str:  # fmt: skip
    """Jinja's own filter would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@jinja2.pass_eval_context
def _join(context: nodes.EvalContext, value: Iterable[Any], between: str = "", attribute: Any = None) -> str:
    """Jinja's own filter, between whose pieces stands text that is followed."""
    return str(filters.do_join(context, value, Traced("") if between == "" else between, attribute))


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
