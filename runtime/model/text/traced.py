"""Text that knows which of its characters a chat template wrote itself, and keeps knowing it through what templates do
with text. It is a `str` and gives the value that `str` gives, always: what is not followed here is only not the
template's own any more.

    '<|user|>' + content + '<|end|>'         <|user|>a <|end|> b<|end|>
    own                                      ^^^^^^^^           ^^^^^^^
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from string import Formatter
from typing import Any, Self, SupportsIndex

Spans = tuple[tuple[int, int], ...]
DIRECTIVE = re.compile(r"%(?:\((?P<key>[^()]*)\))?(?P<how>[#0\- +]*\d*(?:\.\d+)?[a-zA-Z%])")


class Traced(str):
    """Text with the spans [begin, end) that are the template's own: in order, apart from each other."""

    _own: Spans

    def __new__(cls, text: object = "", own: Spans = ()) -> Self:
        made = super().__new__(cls, text)
        made._own = own
        return made

    def __str__(self) -> Self:
        return self

    def __add__(self, other: str) -> Traced:
        if not (isinstance(other, Traced) or type(other) is str):
            return NotImplemented  # a Markup escapes what it is added to, an undefined value refuses it
        return joined((self, other))

    def __radd__(self, other: str) -> Traced:
        return joined((other, self)) if type(other) is str else NotImplemented

    def __mul__(self, count: SupportsIndex) -> Traced:
        whole = super().__mul__(count)
        return joined((self,) * (len(whole) // len(self))) if self._own else Traced(whole)

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> Traced:
        whole = super().__mod__(values)
        traced = _printed(self, values) if self._own and "*" not in self else whole
        return traced if isinstance(traced, Traced) and traced == whole else Traced(whole)

    def __getitem__(self, key: SupportsIndex | slice) -> Traced:
        if not isinstance(key, slice):
            at = range(len(self))[key]
            return self._cut(at, at + 1)
        begin, end, step = key.indices(len(self))
        return self._cut(begin, max(begin, end)) if step == 1 else Traced(super().__getitem__(key))

    def __iter__(self) -> Iterator[Traced]:
        return (self._cut(at, at + 1) for at in range(len(self)))

    def join(self, pieces: Iterable[str], /) -> Traced:
        listed = list(pieces)
        if not self:
            return joined(listed)
        return joined([part for piece in listed for part in (self, piece)][1:])

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> Traced:
        whole = super().replace(old, new, count)
        if not old or not (self._own or getattr(new, "_own", ())):
            return Traced(whole)
        return Traced(new, getattr(new, "_own", ())).join(self.split(old, count))

    def strip(self, characters: str | None = None, /) -> Traced:
        return self.lstrip(characters).rstrip(characters)

    def lstrip(self, characters: str | None = None, /) -> Traced:
        return self._cut(len(self) - len(super().lstrip(characters)), len(self))

    def rstrip(self, characters: str | None = None, /) -> Traced:
        return self._cut(0, len(super().rstrip(characters)))

    def removeprefix(self, prefix: str, /) -> Traced:
        return self._cut(len(self) - len(super().removeprefix(prefix)), len(self))

    def removesuffix(self, suffix: str, /) -> Traced:
        return self._cut(0, len(super().removesuffix(suffix)))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Traced]:  # type: ignore[override]
        return list(self._found(super().split(sep, maxsplit), sep))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Traced]:  # type: ignore[override]
        return list(self._found(super().rsplit(sep, maxsplit), sep))

    def splitlines(self, keepends: bool = False) -> list[Traced]:  # type: ignore[override]
        whole, bare = super().splitlines(True), super().splitlines(keepends)
        begins = accumulate(map(len, whole), initial=0)
        return [self._cut(begin, begin + len(line)) for begin, line in zip(begins, bare, strict=False)]

    def partition(self, sep: str, /) -> tuple[Traced, Traced, Traced]:
        return self._in_three(super().partition(sep))

    def rpartition(self, sep: str, /) -> tuple[Traced, Traced, Traced]:
        return self._in_three(super().rpartition(sep))

    def upper(self) -> Traced:
        return self._as_long(super().upper())

    def lower(self) -> Traced:
        return self._as_long(super().lower())

    def title(self) -> Traced:
        return self._as_long(super().title())

    def capitalize(self) -> Traced:
        return self._as_long(super().capitalize())

    def _cut(self, begin: int, end: int) -> Traced:
        own = tuple((max(a, begin) - begin, min(b, end) - begin) for a, b in self._own if a < end and b > begin)
        return Traced(super().__getitem__(slice(begin, end)), own)

    def _found(self, pieces: list[str], sep: str | None) -> Iterator[Traced]:
        """Pieces of this text in order, between which `sep` stands, or white space."""
        at = 0
        for piece in pieces:
            begin = self.find(piece, at) if sep is None else at
            yield self._cut(begin, begin + len(piece))
            at = begin + len(piece) + len(sep or "")

    def _in_three(self, parts: tuple[str, str, str]) -> tuple[Traced, Traced, Traced]:
        first, second = len(parts[0]), len(parts[0]) + len(parts[1])
        return self._cut(0, first), self._cut(first, second), self._cut(second, len(self))

    def _as_long(self, changed: str) -> Traced:
        return Traced(changed, self._own if len(changed) == len(self) else ())


def plain_text(text: str) -> str:
    """The same text that knows nothing."""
    return "".join((text,))


def own_spans(text: str) -> Spans:
    """Where text is the template's own."""
    return text._own if isinstance(text, Traced) else ()


def written(value: Any) -> Any:
    """A template's constant: all of it is its own."""
    if type(value) in (str, Traced):
        return Traced(value, ((0, len(value)),) if value else ())
    return _mapped(value, written)


def said(value: Any) -> Any:
    """A value that a template is given: no text in it is the template's own."""
    return Traced(value) if type(value) in (str, Traced) else _mapped(value, said)


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {change(key): change(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(change, value))
    return value


def joined(pieces: Iterable[str]) -> Traced:
    """Pieces of text as one, what is their own together."""
    listed = list(pieces)
    spans: list[tuple[int, int]] = []
    position = 0
    for piece in listed:
        for begin, end in own_spans(piece):
            if spans and spans[-1][1] == position + begin:
                spans[-1] = spans[-1][0], position + end
            else:
                spans.append((position + begin, position + end))
        position += len(piece)
    return Traced("".join(listed), tuple(spans))


def _printed(form: Traced, values: Any) -> Traced:
    """`form % values` in its pieces."""
    rest = iter(values if isinstance(values, tuple) else (values,))
    pieces: list[str] = []
    done = 0
    for found in DIRECTIVE.finditer(form):
        pieces.append(form[done : found.start()])
        done = found.end()
        if found["how"] == "%":
            pieces.append(form[done - 1 : done])
        else:
            value = next(rest, None) if found["key"] is None else values[found["key"]]
            pieces.append(str(value) if found["how"] == "s" else str("%" + found["how"]) % (value,))
    return joined([*pieces, form[done:]])


def formatted(form: str, whole: str, arguments: Sequence[Any], values: Mapping[str, Any]) -> Traced:
    """`form.format(*arguments, **values)`, whose value is `whole`; followed if all of the form is the template's own
    and its fields are plain: numbers and names."""
    pieces: list[str] = []
    number = 0
    for literal, field, spec, conversion in Formatter().parse(str(form)):
        pieces.append(written(str(literal)))
        if field is not None:
            index, number = (str(number), number + 1) if not field else (field, number)
            value = arguments[int(index)] if index.isdigit() else values.get(index)
            pieces.append("" if spec or conversion else str(value))
    traced = joined(pieces)
    return traced if traced == whole and own_spans(form) == ((0, len(form)),) else Traced(whole)
