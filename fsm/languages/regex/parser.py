"""Reads a regular expression of one of the dialects (`regex_tree.Dialect`) into a small tree.

What the dialect's own engine refuses is refused, with a position and what to do; so are back-references, conditions and
flags that say nothing about whole texts. `regex.py` gives the tree its language.
"""

from __future__ import annotations

from dataclasses import replace

from stemma.fsm.errors import RegexError
from stemma.fsm.languages.regex.character_classes import NOT_REGULAR, CharacterReader
from stemma.fsm.languages.regex.tree import (
    NO_TEXT,
    Ahead,
    Assertion,
    Behind,
    Class,
    Concat,
    Dialect,
    Either,
    Flags,
    Repeated,
    Source,
    Tree,
    widths,
)

MAXIMUM_REPEAT = 1_000_000
MAXIMUM_DEPTH = 150
MAXIMUM_LENGTH = 1_000_000
SCOPED = {"python": "aimsux", "ecma": "imsxau", "rust": "imsRUux"}  # flags that a dialect knows
SIGNS = frozenset("\\^$.[(*+?{")  # all else stands for itself
MAY_REPEAT = frozenset("*+?{(")  # a quantifier, or a comment before one
HONOURED = frozenset("isxauU")
NO_SCOPE = frozenset("au")  # of Python's flags: cannot be turned off


class Parser:
    """A recursive descent over one pattern."""

    def __init__(self, pattern: str, dialect: Dialect) -> None:
        if len(pattern) > MAXIMUM_LENGTH:
            raise RegexError(f"the pattern is longer than {MAXIMUM_LENGTH} characters", pattern, 0)
        self.dialect = dialect
        self.source = Source(pattern)
        self.flags = Flags(ascii=dialect == "ecma")
        self.characters = CharacterReader(self.source, dialect, self.flags)
        self.depth = 0
        self.names: set[str] = set()
        self.begun = False  # whether something was read that global flags have to stand before

    def parse(self) -> Tree:
        tree = self.alternatives()
        if self.source.peek():
            raise self.source.error("unbalanced ')'")
        return tree

    # Structure ---------------------------------------------------------------------------------------------------

    def alternatives(self) -> Tree:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise self.source.error(f"groups are nested deeper than {MAXIMUM_DEPTH}")
        parts = [self.sequence()]
        while self.source.take("|"):
            self.begun = True
            parts.append(self.sequence())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def sequence(self) -> Tree:
        parts: list[Tree] = []
        source = self.source
        while (sign := source.peek()) not in ("", "|", ")"):
            if (self.flags.verbose or sign == "(") and self.skipped():
                continue
            atom = self.atom() if sign in SIGNS else self.characters.literal(ord(source.next()))
            if atom is not None:
                follows = self.flags.verbose or source.peek() in MAY_REPEAT
                parts.append(self.quantified(atom, sign == "(") if follows else atom)
                self.begun = True
        return parts[0] if len(parts) == 1 else Concat(tuple(parts))

    def skipped(self) -> bool:
        """Whether something was read that means nothing: Python's comments; in verbose mode, white space and others."""
        source = self.source
        if self.dialect == "python" and source.take("(?#"):
            self.skip_comment()
            return True
        if not self.flags.verbose:
            return False
        if source.peek() == "#":
            end = source.pattern.find("\n", source.at)
            source.at = len(source.pattern) if end < 0 else end + 1
            return True
        is_blank = source.peek().isspace() if self.dialect == "rust" else source.peek() in " \t\n\r\v\f"
        source.at += is_blank
        return is_blank

    def skip_comment(self) -> None:
        while (character := self.source.next()) != ")":
            if character == "\\":
                self.source.next()

    def atom(self) -> Tree | None:
        source = self.source
        if self.bounds() is not None:
            raise source.error("nothing to repeat")
        character = source.next()
        if character == "(":
            return self.group()
        if character == "[":
            return self.characters.bracketed()
        if character == ".":
            return Class(self.characters.dot())
        if character == "^":
            return Assertion("start")
        if character == "$":
            return Assertion("last" if self.dialect == "python" else "end")
        if character == "\\":
            return self.escape()
        return self.characters.literal(ord(character))

    def escape(self) -> Tree:
        source = self.source
        letter = source.peek()
        if letter and letter in "bB":
            source.at += 1
            if self.dialect == "rust" and letter == "b" and source.take("{"):
                raise source.error(r"\b{start} and its like are not supported; use \b")
            return Assertion("boundary" if letter == "b" else "inside", self.characters.word())
        if letter and letter in {"python": "AZ", "ecma": "AzZ", "rust": "Az"}[self.dialect]:
            source.at += 1
            return Assertion("start" if letter == "A" else "end")
        if letter and letter in "<>" and self.dialect == "rust":
            raise source.error(rf"\{letter} is not supported; use \b")
        return self.characters.escaped()

    # Repeats -----------------------------------------------------------------------------------------------------

    def quantified(self, atom: Tree, is_group: bool) -> Tree:
        source, is_repeated = self.source, False
        while source.peek():
            if self.skipped():
                continue
            bounds = self.bounds()
            if bounds is None:
                break
            if is_repeated and self.dialect != "rust":
                raise source.error("multiple repeat; put the inner one in a group (?:...)")
            if isinstance(atom, Assertion) and not is_group and self.dialect != "rust":
                raise source.error("an anchor or a boundary cannot be repeated")
            is_repeated = True
            possessive = self.dialect == "python" and source.take("+")
            lazy = not possessive and source.take("?")
            if isinstance(atom, (Assertion, Ahead, Behind)):
                atom = NO_TEXT if bounds[0] == 0 else atom  # repeating what consumes nothing
            else:
                atom = Repeated(atom, *bounds, possessive, lazy)
        return atom

    def bounds(self) -> tuple[int, int | None] | None:
        """The quantifier here, taken, or None."""
        source = self.source
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(source.peek())
        if simple is not None:
            source.at += 1
            return simple
        if source.peek() != "{":
            return None
        end = source.pattern.find("}", source.at)
        low, comma, high = source.pattern[source.at + 1 : end].partition(",") if end > 0 else ("", "", "x")
        if self.dialect == "rust":
            low, high = low.strip(), high.strip()
        is_number = all(not digits or (digits.isascii() and digits.isdigit()) for digits in (low, high))
        if not is_number or not (low or (comma and self.dialect == "python")):
            if self.dialect == "rust":
                raise source.error("a brace that begins no repeat; write \\{")
            if comma and is_number and self.dialect == "ecma":
                raise source.error("{,n} has no meaning in ECMA-262; write {0,n}, or \\{ for the brace itself")
            return None  # a brace that is no quantifier is itself
        minimum = int(low[:12]) if low else 0
        maximum = (int(high[:12]) if high else None) if comma else minimum
        if max(minimum, maximum or 0) > MAXIMUM_REPEAT:
            raise source.error(f"a repeat of more than {MAXIMUM_REPEAT}")
        if maximum is not None and maximum < minimum:
            raise source.error("the repeat's minimum is greater than its maximum")
        source.at = end + 1
        return minimum, maximum

    # Groups ------------------------------------------------------------------------------------------------------

    def group(self) -> Tree | None:
        source, is_rust = self.source, self.dialect == "rust"
        if not source.take("?"):
            return self.closed()
        if source.take(":"):
            return self.closed()
        if not is_rust and source.peek() in ("=", "!"):
            return Ahead(negative=source.next() == "!", part=self.closed())
        if not is_rust and (source.take("<=") or source.take("<!")):
            return self.behind(source.pattern[source.at - 1] == "!")
        if source.take("P<") or (self.dialect != "python" and source.take("<")):
            return self.named()
        if self.dialect == "python" and source.take("P="):
            raise source.error(NOT_REGULAR)
        what = {"<": "look-behind or a group's name", ">": "an atomic group", "(": "a condition", "P": "a name",
                "=": "look-ahead", "!": "look-ahead"}  # fmt: skip
        if source.peek() in what:
            raise source.error(f"{what[source.peek()]} is not possible here; write the alternatives out")
        return self.flagged()

    def behind(self, negative: bool) -> Tree:
        part = self.closed()
        if self.dialect == "python" and len(set(widths(part))) > 1:
            raise self.source.error("a look-behind must have one width; write the alternatives out")
        return Behind(negative=negative, part=part)

    def named(self) -> Tree:
        source = self.source
        name = source.until(">", "a group's name")
        plain = (
            "".join(sign for sign in name if sign not in ".[]") if self.dialect == "rust" else name.replace("$", "_")
        )
        if not plain.isidentifier() or (self.dialect == "rust" and not name[0].isidentifier()):
            raise source.error("a group's name must be an identifier followed by '>'")
        if name in self.names and self.dialect != "ecma":
            raise source.error(f"the group's name {name!r} is used twice")
        self.names.add(name)
        return self.closed()

    def flagged(self) -> Tree | None:
        """`(?i)`, for what follows, and `(?i:...)`."""
        source, saved = self.source, replace(self.flags)
        start = source.at
        words = self.read_flags()
        on, minus, off = words.partition("-")
        seen = on + off
        if not seen or (minus and not off) or len(set(seen)) < len(seen):
            raise source.error("flags that are missing, or said twice")
        if self.dialect == "python" and (NO_SCOPE.intersection(off) or NO_SCOPE.issubset(on)):
            raise source.error("the flags a and u cannot be turned off, or both be on")
        unknown = [flag for flag in seen if flag not in HONOURED]
        if unknown or (self.dialect == "rust" and "u" in off):
            raise source.error(f"the flag {(unknown or 'u')[0]!r} is not supported; only i, s, x, a and u are")
        is_global = source.pattern[source.at - 1] == ")"
        if is_global and self.dialect == "python" and (minus or self.begun or self.depth > 1):
            source.at = start
            raise source.error("flags for the whole expression must stand at its start, and cannot be turned off")
        self.set_flags(on, True)
        self.set_flags(off, False)
        if is_global:
            return None
        tree = self.closed()
        self.restore(saved)
        return tree

    def read_flags(self) -> str:
        """The letters up to `:` or `)`."""
        known, start = SCOPED[self.dialect] + "-", self.source.at
        while (flag := self.source.next()) not in ":)":
            if flag not in known:
                raise self.source.error(f"the flag {flag!r} is not supported; only i, s, x, a and u are")
        return self.source.pattern[start : self.source.at - 1]

    def set_flags(self, letters: str, value: bool) -> None:
        flags = self.flags
        for letter in letters:
            if letter == "i":
                flags.ignore_case = value
            elif letter == "s":
                flags.dot_all = value
            elif letter == "x":
                flags.verbose = value
            elif letter in "au" and self.dialect != "rust":
                flags.ascii = letter == "a"

    def restore(self, saved: Flags) -> None:
        flags = self.flags
        flags.ignore_case, flags.verbose, flags.dot_all = saved.ignore_case, saved.verbose, saved.dot_all
        flags.ascii = saved.ascii

    def closed(self) -> Tree:
        """The alternatives up to the closing parenthesis; flags set inside end with it."""
        saved, self.begun = replace(self.flags), True
        tree = self.alternatives()
        if not self.source.take(")"):
            raise self.source.error("missing ')'")
        self.restore(saved)
        return tree
