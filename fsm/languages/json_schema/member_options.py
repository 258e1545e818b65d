"""What may be the case of some member of an object, as "at least one of ..." asks."""

from __future__ import annotations

from typing import Final

from stemma.fsm.languages.json_schema.goals import Goal
from stemma.fsm.syntax.value import Value


class Absent(Value):
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: Final = name

    def contents(self) -> tuple[object, ...]:
        return (self.name,)


class Named(Value):
    """A member of this name whose value fulfils the goal."""

    __slots__ = ("goal", "name")

    def __init__(self, name: str, goal: Goal) -> None:
        self.name: Final = name
        self.goal: Final = goal

    def contents(self) -> tuple[object, ...]:
        return (self.name, self.goal)


class Matching(Value):
    """A member whose name matches the pattern and whose value fulfils the goal."""

    __slots__ = ("goal", "source")

    def __init__(self, source: str, goal: Goal) -> None:
        self.source: Final = source
        self.goal: Final = goal

    def contents(self) -> tuple[object, ...]:
        return (self.source, self.goal)


class Other(Value):
    """A member outside the names and patterns whose value fulfils the goal."""

    __slots__ = ("goal", "names", "sources")

    def __init__(self, names: frozenset[str], sources: tuple[str, ...], goal: Goal) -> None:
        self.names: Final = names
        self.sources: Final = sources
        self.goal: Final = goal

    def contents(self) -> tuple[object, ...]:
        return (self.names, self.sources, self.goal)


class Misnamed(Value):
    """A member whose name, as a string, fulfils the goal."""

    __slots__ = ("goal",)

    def __init__(self, goal: Goal) -> None:
        self.goal: Final = goal

    def contents(self) -> tuple[object, ...]:
        return (self.goal,)


MemberOption = Absent | Named | Matching | Other | Misnamed


class SomeMember(Value):
    """At least one of the options is the case."""

    __slots__ = ("options",)

    def __init__(self, options: tuple[MemberOption, ...]) -> None:
        self.options: Final = options

    def contents(self) -> tuple[object, ...]:
        return (self.options,)
