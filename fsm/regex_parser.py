"""Reads a regular expression, in Python's `re` syntax or as ECMA-262 (JSON Schema `pattern`), into a small tree.

Look-behind, back-references and conditions are refused with a position and what to do; `regex.py` gives the tree its
language.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal as OneOf

from stemma.fsm import characters
from stemma.fsm.characters import Ranges
from stemma.fsm.errors import RegexError


@dataclass(frozen=True, slots=True)
class Class:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Concat:
    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    part: Tree
    minimum: int
    maximum: int | None
    possessive: bool = False


@dataclass(frozen=True, slots=True)
class Assertion:
    """`start`, `end`, `last` (Python's `$`: the end, or before a last newline), a word `boundary` or `inside` one."""

    kind: OneOf["start", "end", "last", "boundary", "inside"]


@dataclass(frozen=True, slots=True)
class Ahead:
    """A look-ahead."""

    part: Tree
    negative: bool


Tree = Class | Concat | Either | Repeated | Assertion | Ahead
Flavour = OneOf["python", "ecma"]

EMPTY = Concat(())
ASCII_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
CONTROL = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "a": 7}
MAXIMUM_REPEAT = 1_000_000
MAXIMUM_DEPTH = 150
MAXIMUM_LENGTH = 1_000_000


class Parser:
    """A recursive descent over one pattern."""

    def __init__(self, pattern: str, flavour: Flavour) -> None:
        if len(pattern) > MAXIMUM_LENGTH:
            raise RegexError(f"the pattern is longer than {MAXIMUM_LENGTH} characters", pattern, 0)
        self.pattern = pattern
        self.python = flavour == "python"
        self.at = 0
        self.depth = 0
        self.ignore_case = False
        self.verbose = False
        self.dot_all = False
        self.ascii = not self.python

    def parse(self) -> Tree:
        tree = self.alternatives()
        if self.at < len(self.pattern):
            raise self.error("unbalanced ')'")
        return tree

    def error(self, message: str) -> RegexError:
        return RegexError(message, self.pattern, self.at)

    # Structure ---------------------------------------------------------------------------------------------------

    def alternatives(self) -> Tree:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise self.error(f"groups are nested deeper than {MAXIMUM_DEPTH}")
        parts = [self.sequence()]
        while self.take("|"):
            parts.append(self.sequence())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def sequence(self) -> Tree:
        parts: list[Tree] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if self.verbose and self.skipped_blank():
                continue
            atom = self.atom()
            if atom is not None:
                parts.append(self.quantified(atom))
        return parts[0] if len(parts) == 1 else Concat(tuple(parts))

    def skipped_blank(self) -> bool:
        """In verbose mode: white space and comments mean nothing."""
        if self.pattern[self.at] == "#":
            end = self.pattern.find("\n", self.at)
            self.at = len(self.pattern) if end < 0 else end + 1
            return True
        if self.pattern[self.at].isspace():
            self.at += 1
            return True
        return False

    def atom(self) -> Tree | None:
        character = self.next()
        if character == "(":
            return self.group()
        if character == "[":
            return self.character_class()
        if character == ".":
            return Class(self.dot())
        if character == "^":
            return Assertion("start")
        if character == "$":
            return Assertion("last" if self.python else "end")
        if character == "\\":
            return self.escape()
        if character in "*+?":
            self.at -= 1
            raise self.error("nothing to repeat")
        return self.literal(ord(character))

    def dot(self) -> Ranges:
        if self.dot_all:
            return characters.SCALARS
        return characters.complement(((10, 10),) if self.python else ((10, 10), (13, 13), (0x2028, 0x2029)))

    def literal(self, code: int) -> Class:
        if 0xD800 <= code <= 0xDFFF:
            raise self.error("a lone surrogate can never match; write the whole character")
        return Class(self.cased(((code, code),)))

    def cased(self, ranges: Ranges) -> Ranges:
        return characters.ignoring_case(ranges) if self.ignore_case else ranges

    def quantified(self, atom: Tree) -> Tree:
        while self.at < len(self.pattern):
            if self.verbose and self.skipped_blank():
                continue
            bounds = self.bounds()
            if bounds is None:
                return atom
            if isinstance(atom, Assertion | Ahead):
                atom = EMPTY if bounds[0] == 0 else atom  # repeating what consumes nothing
                continue
            possessive = self.python and self.take("+")
            if not possessive:
                self.take("?")
            atom = Repeated(atom, *bounds, possessive)
            if self.at < len(self.pattern) and self.pattern[self.at] in "*+?":
                raise self.error("multiple repeat; put the inner one in a group (?:...)")
        return atom

    def bounds(self) -> tuple[int, int | None] | None:
        """The quantifier here, taken, or None."""
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self.pattern[self.at])
        if simple is not None:
            self.at += 1
            return simple
        if self.pattern[self.at] != "{":
            return None
        end = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at + 1 : end].partition(",") if end > 0 else ("", "", "x")
        if not (
            all(not digits or (digits.isascii() and digits.isdigit()) for digits in (low, high)) and (low or comma)
        ):
            return None  # a brace that is no quantifier is itself
        if not low and not self.python:
            raise self.error("{,n} has no meaning in ECMA-262; write {0,n}, or \\{ for the brace itself")
        minimum = int(low[:12]) if low else 0
        maximum = (int(high[:12]) if high else None) if comma else minimum
        if max(minimum, maximum or 0) > MAXIMUM_REPEAT:
            raise self.error(f"a repeat of more than {MAXIMUM_REPEAT}")
        if maximum is not None and maximum < minimum:
            raise self.error("the repeat's minimum is greater than its maximum")
        self.at = end + 1
        return minimum, maximum

    def group(self) -> Tree | None:
        if not self.take("?"):
            return self.closed()
        kind = self.next()
        if kind == ":":
            return self.closed()
        if kind in "=!":
            return Ahead(self.closed(), negative=kind == "!")
        if kind == "P":
            return self.named("<")
        if kind == "<" and self.peek() not in "=!":
            self.at -= 1
            return self.named("<")
        if kind == "#":
            self.at = self.pattern.find(")", self.at) + 1 or len(self.pattern)
            return None
        if kind in "<>(":
            what = {"<": "look-behind", ">": "an atomic group", "(": "a condition"}[kind]
            raise self.error(f"{what} is not regular here; write the alternatives out")
        self.at -= 1
        return self.flagged()

    def named(self, opening: str) -> Tree:
        if not self.take(opening):
            raise self.error("a back-reference by name is not regular; repeat the group's alternatives instead")
        end = self.pattern.find(">", self.at)
        if end < 0 or not self.pattern[self.at : end].isidentifier():
            raise self.error("a group's name must be an identifier followed by '>'")
        self.at = end + 1
        return self.closed()

    def flagged(self) -> Tree | None:
        saved = self.ignore_case, self.verbose, self.dot_all, self.ascii
        value = True
        while (flag := self.next()) not in ":)":
            if flag == "-":
                value = False
            elif flag == "i":
                self.ignore_case = value
            elif flag == "s":
                self.dot_all = value
            elif flag == "x":
                self.verbose = value
            elif flag in "au":
                self.ascii = flag == "a"
            else:
                raise self.error(f"the flag {flag!r} is not supported; only i, s, x, a and u are")
        if flag == ")":
            return None
        tree = self.closed()
        self.ignore_case, self.verbose, self.dot_all, self.ascii = saved
        return tree

    def closed(self) -> Tree:
        """The alternatives up to the closing parenthesis; flags set inside end with it."""
        saved = self.ignore_case, self.verbose, self.dot_all, self.ascii
        tree = self.alternatives()
        if not self.take(")"):
            raise self.error("missing ')'")
        self.ignore_case, self.verbose, self.dot_all, self.ascii = saved
        return tree

    # Characters --------------------------------------------------------------------------------------------------

    def escape(self) -> Tree:
        character = self.next()
        if character in "bB":
            return Assertion("boundary" if character == "b" else "inside")
        if character in ("AZ" if self.python else "AZz"):
            return Assertion("start" if character == "A" else "end")
        if character in "123456789":
            if self.python and character in "1234567" and len(code := self.octal_ahead()) == 2:
                self.at += 2
                return self.literal(int(character + code, 8))
            raise self.error("a back-reference is not regular; repeat the group's alternatives instead")
        if character == "k" and not self.python:
            raise self.error("a back-reference is not regular; repeat the group's alternatives instead")
        named = self.named_class(character)
        return Class(self.cased(named)) if named is not None else self.literal(self.escaped_code(character))

    def octal_ahead(self) -> str:
        digits = self.pattern[self.at : self.at + 2]
        return digits if all(digit in "01234567" for digit in digits) else ""

    def named_class(self, character: str) -> Ranges | None:
        lower = character.lower()
        if lower == "p" and not self.python:
            ranges = self.property_class()
        elif lower not in "dws":
            return None
        elif self.python and not self.ascii:
            ranges = characters.unicode_class(lower)
        else:
            space = characters.ASCII_SPACE if self.python else characters.ECMA_SPACE
            ranges = {"d": characters.ASCII_DIGIT, "w": characters.ASCII_WORD, "s": space}[lower]
        return ranges if character == lower else characters.complement(ranges)

    def property_class(self) -> Ranges:
        end = self.pattern.find("}", self.at)
        if self.peek() != "{" or end < 0:
            raise self.error(r"\p needs a name in braces, such as \p{Lu}")
        ranges = characters.category(self.pattern[self.at + 1 : end])
        if ranges is None:
            raise self.error(r"only general categories, such as \p{Lu} or \p{Letter}, are supported")
        self.at = end + 1
        return ranges

    def escaped_code(self, character: str) -> int:
        """The code point that a backslash and `character` stand for."""
        if character in CONTROL and (self.python or character != "a"):
            return CONTROL[character]
        if character == "x":
            return self.hexadecimal(2)
        if character == "u":
            return self.unicode_escape()
        if character == "U" and self.python:
            return self.hexadecimal(8)
        if character == "N" and self.python:
            return self.character_by_name()
        if character == "0":
            return self.octal()
        if character == "c" and not self.python and self.peek() in ASCII_LETTERS:
            return ord(self.next()) % 32
        if character in ASCII_LETTERS or (character.isalpha() and not self.python):
            self.at -= 1
            raise self.error(f"bad escape \\{character}; a letter stands for itself without a backslash")
        return ord(character)

    def unicode_escape(self) -> int:
        if not self.python and self.take("{"):
            end = self.pattern.find("}", self.at)
            code = self.hexadecimal(max(end - self.at, 0))
            self.at += 1
            return code
        code = self.hexadecimal(4)
        if 0xD800 <= code <= 0xDBFF and self.pattern.startswith("\\u", self.at):
            self.at += 2
            return 0x10000 + ((code - 0xD800) << 10) + (self.hexadecimal(4) - 0xDC00)
        return code

    def octal(self) -> int:
        digits = ""
        while self.python and len(digits) < 2 and self.peek() and self.peek() in "01234567":
            digits += self.next()
        return int(digits or "0", 8)

    def character_by_name(self) -> int:
        end = self.pattern.find("}", self.at)
        name = self.pattern[self.at + 1 : max(end, 0)]
        self.at = end + 1
        try:
            return ord(unicodedata.lookup(name))
        except (KeyError, TypeError):
            raise self.error(f"unknown character name {name!r}") from None

    def hexadecimal(self, length: int) -> int:
        digits = self.pattern[self.at : self.at + length]
        if not digits or len(digits) < length or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise self.error("incomplete hexadecimal escape")
        self.at += length
        code = int(digits, 16)
        if code > characters.LAST:
            raise self.error("no such character")
        return code

    def character_class(self) -> Tree:
        negative = self.take("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while (first and self.python) or self.peek() != "]":
            first = False
            low = self.class_item()
            if self.peek() != "-" or self.pattern.startswith("]", self.at + 1):
                ranges += [(low, low)] if isinstance(low, int) else low
                continue
            self.at += 1
            high = self.class_item()
            if isinstance(low, int) and isinstance(high, int):
                if low > high:
                    raise self.error("a range of characters that runs backwards")
                ranges.append((low, high))
            elif self.python:
                raise self.error("a class such as \\w cannot end a range")
            else:
                for item in (low, 45, high):
                    ranges += [(item, item)] if isinstance(item, int) else item
        self.at += 1
        cased = self.cased(characters.intersection(characters.union(ranges), characters.SCALARS))
        return Class(characters.complement(cased) if negative else cased)

    def class_item(self) -> int | Ranges:
        """One character, or the ranges of an escaped class."""
        character = self.next()
        if character != "\\":
            return ord(character)
        character = self.next()
        if character == "b":
            return 8
        if self.python and character in "1234567" and len(code := self.octal_ahead()) == 2:
            self.at += 2
            return int(character + code, 8)
        named = self.named_class(character)
        return named if named is not None else self.escaped_code(character)

    # Reading -----------------------------------------------------------------------------------------------------

    def peek(self) -> str:
        return self.pattern[self.at] if self.at < len(self.pattern) else ""

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise self.error("the pattern ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def take(self, character: str) -> bool:
        if self.at < len(self.pattern) and self.pattern[self.at] == character:
            self.at += 1
            return True
        return False
