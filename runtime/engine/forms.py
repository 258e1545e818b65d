"""From the type that a value shall have to what makes the model say nothing else, and from what it said to a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from stemma.fsm import FormError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.forms import form_of as grammar_of
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine.generation import Completion
from stemma.runtime.engine.grammars import GrammarSpec
from stemma.runtime.engine.options import RequestOptions
from stemma.runtime.errors import IncompleteOutput, InvalidOutput, InvalidRequest

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of output.

    name: what a report calls it. type: what it is the form of. spec: its grammar, None for any text.
    value: makes the value of a whole text. is_json: whether the text is JSON.
    """

    name: str
    type: Any
    spec: GrammarSpec | None
    value: Callable[[str], Any]
    is_json: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the value is the text itself."""
        return self.value is str

    def over(self, options: RequestOptions) -> RequestOptions:
        """These options, and what makes the model say nothing else. Raises InvalidRequest if they have a grammar."""
        if self.spec is None:
            return options
        if options.get("grammar") is not None:
            raise InvalidRequest("give a form or a grammar, not both", "grammar")
        return {**options, "grammar": self.spec}

    def read(self, completion: Completion) -> Any:
        """The value. Raises IncompleteOutput if the output ended too early, as at a stop string, InvalidOutput if a
        validator of the type says no: a grammar knows nothing of such code."""
        problem: IncompleteOutput | InvalidOutput
        if self.spec is not None and completion.finish_reason != "stop":
            raise IncompleteOutput(
                f"the output ended ({completion.finish_reason}) before it was a whole {self.name}: raise max_tokens; "
                f"there are {len(completion.tokens)} tokens, {completion.text!r:.80}",
                completion.text,
            )
        try:
            return self.value(completion.text)
        except (ValueError, LookupError) as error:  # of pydantic, of JSON, of a text that is none of the choices
            if completion.stopped_by is not None:
                problem = IncompleteOutput(
                    f"a stop string, {completion.stopped_by!r}, ended the output before it was a whole {self.name}: "
                    f"leave it out; there is {completion.text!r:.80}",
                    completion.text,
                )
            else:
                problem = InvalidOutput(f"the output is no value of its type: {error}", completion.text)
        raise problem  # out here it keeps no reference to pydantic's error, which the garbage collector cannot see into


class Answer(NamedTuple, Generic[T_co]):
    """A completion with the value that it is."""

    value: T_co
    completion: Completion

    @property
    def text(self) -> str:
        """What the model said."""
        return self.completion.text

    @property
    def usage(self) -> Usage:
        """Where the tokens came from."""
        return self.completion.usage


TEXT = Form("text", str, None, str)


def form_of(kind: Any) -> Form:
    """The form of a type: pydantic models, dataclasses, TypedDicts, Literals, Enums, unions, collections, numbers,
    None; of Regex and the other grammars; of `str`, which is any text.

    Raises InvalidRequest for what is neither, or has no JSON Schema.
    """
    try:
        return _remembered(kind, date.today())
    except TypeError:  # a type that cannot be hashed, such as Annotated with a list in it
        return _form(kind)


@lru_cache(maxsize=256)
def _remembered(kind: Any, today: date) -> Form:
    """Kept for a day: what is past and what is future is told when a form is made."""
    return _form(kind)


def _form(kind: Any) -> Form:
    if kind is str:
        return TEXT
    if isinstance(kind, Mapping):
        raise InvalidRequest("a form is a type; a JSON schema is a grammar: grammar=JSONSchema({...})", "form")
    try:
        made = grammar_of(kind)
    except FormError as error:
        raise InvalidRequest(f"this form cannot be used: {error}", "form") from error
    name = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    return Form(name, kind, made, made.validate, is_json=isinstance(made.spec, JSONSchema))
