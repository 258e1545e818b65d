"""Reads the characters of a regular expression: escapes, classes such as `\\d` or `\\p{Lu}`, sets in brackets.

What each means depends on the dialect. An escape of a letter that the dialect does not know is an error, never the
letter.
"""

from __future__ import annotations

import unicodedata

from stemma.fsm.languages.regex.tree import Class, Dialect, Flags, Source
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.characters import Ranges

ASCII_ALPHANUMERIC = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
OCTAL = frozenset("01234567")
CONTROL = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "a": 7}
HEXADECIMAL = frozenset("0123456789abcdefABCDEF")
LINE_FEED: Ranges = ((10, 10),)
ECMA_LINES: Ranges = ((10, 10), (13, 13), (0x2028, 0x2029))
POSIX: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)), "alpha": ((65, 90), (97, 122)), "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)), "cntrl": ((0, 31), (127, 127)), "digit": ((48, 57),), "graph": ((33, 126),),
    "lower": ((97, 122),), "print": ((32, 126),), "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)), "upper": ((65, 90),), "word": characters.ASCII_WORD,
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}  # fmt: skip
NOT_REGULAR = "a back-reference is not regular; repeat the group's alternatives instead"


class CharacterReader:
    """Single characters and sets of them, from a source that others read too."""

    def __init__(self, source: Source, dialect: Dialect, flags: Flags) -> None:
        self.source = source
        self.dialect = dialect
        self.flags = flags

    def dot(self) -> Ranges:
        if self.flags.dot_all:
            return characters.SCALARS
        return characters.complement(ECMA_LINES if self.dialect == "ecma" else LINE_FEED)

    def literal(self, code: int) -> Class:
        if 0xD800 <= code <= 0xDFFF:
            raise self.source.error("a lone surrogate can never match; write the whole character")
        return Class(self.cased(((code, code),)) if self.flags.ignore_case else ((code, code),))

    def cased(self, ranges: Ranges) -> Ranges:
        """`ranges` and the other cases of its characters, where the flags say so."""
        if not self.flags.ignore_case:
            return ranges
        if self.dialect == "python" and self.flags.ascii:
            return characters.ignoring_ascii_case(ranges)
        return characters.folding_case(ranges) if self.dialect == "rust" else characters.ignoring_case(ranges)

    def word(self) -> Ranges:
        """The characters between which and others there is a boundary."""
        if self.dialect == "rust":
            return characters.rust_class("w")
        return characters.ASCII_WORD if self.flags.ascii else characters.unicode_class("w")

    # Escapes ------------------------------------------------------------------------------------------------------

    def escaped(self) -> Class:
        """What a backslash outside brackets stands for, when it is no assertion."""
        character = self.source.next()
        if character in "123456789" or (character == "0" and self.dialect == "rust"):
            return self.literal(self.octal_or_reference(character))
        if character == "k" and self.dialect == "ecma":
            raise self.source.error(NOT_REGULAR)
        named = self.named_class(character)
        return Class(self.cased(named)) if named is not None else self.literal(self.escaped_code(character))

    def octal_or_reference(self, first: str) -> int:
        """Python reads three octal digits as a character; all else that begins with a digit is a reference."""
        digits = self.source.pattern[self.source.at - 1 : self.source.at + 2]
        if self.dialect != "python" or len(digits) < 3 or not OCTAL.issuperset(digits):
            raise self.source.error(NOT_REGULAR)
        self.source.at += 2
        return self.octal_code(digits)

    def octal_code(self, digits: str) -> int:
        code = int(digits, 8)
        if code > 0o377:
            raise self.source.error("an octal escape beyond \\377")
        return code

    def named_class(self, letter: str) -> Ranges | None:
        """`\\d`, `\\w`, `\\s`, `\\p{...}` and their opposites."""
        lower = letter.lower()
        if lower == "p" and self.dialect != "python":
            found = self.property_class()
        elif lower not in "dws":
            return None
        elif self.dialect == "rust":
            found = characters.rust_class(lower)
        elif self.dialect == "python" and not self.flags.ascii:
            found = characters.unicode_class(lower)
        else:
            space = characters.ASCII_SPACE if self.dialect == "python" else characters.ECMA_SPACE
            found = {"d": characters.ASCII_DIGIT, "w": characters.ASCII_WORD, "s": space}[lower]
        return found if letter == lower else self.opposite(found)

    def opposite(self, ranges: Ranges) -> Ranges:
        """All others; of those that are not assigned here, Rust's newer tables may say anything: they are left out."""
        others = characters.complement(ranges)
        is_known = self.dialect != "rust" or ranges[-1][-1] < 0x80
        return others if is_known else characters.difference(others, characters.category("Cn") or ())

    def property_class(self) -> Ranges:
        source = self.source
        if self.dialect == "rust" and source.peek() not in ("", "{"):
            name = source.next()
        elif source.take("{"):
            name = source.until("}", r"\p{")
        else:
            raise source.error(r"\p needs a name in braces, such as \p{Lu}")
        ranges = characters.category(name) if self.dialect == "ecma" else characters.loose_category(name)
        if ranges is None:
            raise source.error(r"only general categories, such as \p{Lu} or \p{Letter}, are supported")
        return self.cased(ranges) if self.dialect == "rust" else ranges  # before an opposite is taken

    def escaped_code(self, letter: str) -> int:
        """The code point that a backslash and `letter` stand for."""
        dialect, source = self.dialect, self.source
        if letter in CONTROL and not (letter == "a" and dialect == "ecma"):
            return CONTROL[letter]
        if letter in "xu" or (letter == "U" and dialect != "ecma"):
            return self.hexadecimal_escape(letter)
        if letter == "N" and dialect == "python":
            return self.character_by_name()
        if letter == "0" and dialect != "rust":
            return self.zero()
        if letter == "c" and dialect == "ecma" and source.peek() in ASCII_ALPHANUMERIC and source.peek().isalpha():
            return ord(source.next()) % 32
        is_letter = letter in ASCII_ALPHANUMERIC or (letter.isalpha() and dialect != "python")
        if is_letter or (dialect == "rust" and (not letter.isascii() or letter in "<>")):
            source.at -= 1
            raise source.error(f"bad escape \\{letter}; a letter stands for itself without a backslash")
        return ord(letter)

    def hexadecimal_escape(self, letter: str) -> int:
        source, length = self.source, {"x": 2, "u": 4, "U": 8}[letter]
        in_braces = self.dialect == "rust" or (self.dialect == "ecma" and letter == "u")
        if in_braces and source.take("{"):
            digits = source.until("}", f"\\{letter}{{")
            return self.hexadecimal(digits, max(1, len(digits)))
        code = self.hexadecimal(self.taken(length), length)
        if self.dialect == "ecma" and 0xD800 <= code <= 0xDBFF and source.take("\\u"):
            low = self.hexadecimal(self.taken(4), 4)
            if not 0xDC00 <= low <= 0xDFFF:
                raise source.error("a lone surrogate can never match; write the whole character")
            return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return code

    def taken(self, length: int) -> str:
        digits = self.source.pattern[self.source.at : self.source.at + length]
        self.source.at += len(digits)
        return digits

    def hexadecimal(self, digits: str, length: int) -> int:
        if len(digits) < length or not HEXADECIMAL.issuperset(digits):
            raise self.source.error("incomplete hexadecimal escape")
        code = int(digits, 16)
        if code > characters.LAST:
            raise self.source.error("no such character")
        return code

    def zero(self) -> int:
        """`\\0`, in Python with up to two more octal digits."""
        digits = "0"
        while self.dialect == "python" and len(digits) < 3 and self.source.peek() in OCTAL:
            digits += self.source.next()
        return int(digits, 8)

    def character_by_name(self) -> int:
        if not self.source.take("{"):
            raise self.source.error(r"\N needs a name in braces")
        name = self.source.until("}", r"\N{")
        try:
            return ord(unicodedata.lookup(name))
        except (KeyError, TypeError):
            raise self.source.error(f"unknown character name {name!r}") from None

    # Brackets -----------------------------------------------------------------------------------------------------

    def bracketed(self) -> Class:
        """A set, after its opening bracket."""
        ranges = self.rust_set() if self.dialect == "rust" else self.plain_set()
        return Class(ranges)

    def plain_set(self) -> Ranges:
        source, is_python = self.source, self.dialect == "python"
        negative = source.take("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while (first and is_python) or source.peek() != "]":
            first = False
            low = self.item()
            if source.peek() != "-" or source.pattern.startswith("]", source.at + 1):
                ranges += _ranges(low)
                continue
            source.at += 1
            high = self.item()
            if isinstance(low, int) and isinstance(high, int):
                ranges.append(self.span(low, high))
            elif is_python:
                raise source.error("a class such as \\w cannot begin or end a range")
            else:
                ranges += [*_ranges(low), (45, 45), *_ranges(high)]
        source.at += 1
        cased = self.cased(characters.intersection(characters.union(ranges), characters.SCALARS))
        return characters.complement(cased) if negative else cased

    def span(self, low: int, high: int) -> tuple[int, int]:
        if low > high:
            raise self.source.error("a range of characters that runs backwards")
        return low, high

    def item(self) -> int | Ranges:
        """One character of a set, or the ranges of an escaped class."""
        character = self.source.next()
        if character != "\\":
            return ord(character)
        character = self.source.next()
        if character == "b" and self.dialect != "rust":
            return 8
        if self.dialect == "python" and character in OCTAL:
            digits = character
            while len(digits) < 3 and self.source.peek() and self.source.peek() in OCTAL:
                digits += self.source.next()
            return self.octal_code(digits)
        named = self.named_class(character)
        return named if named is not None else self.escaped_code(character)

    def rust_set(self) -> Ranges:
        """Sets within sets, `[:alpha:]`, and `&&`, `--`, `~~` between what stands left and right of them."""
        source = self.source
        negative = source.take("^")
        left: Ranges | None = None
        operation, first = "", True
        ranges: list[tuple[int, int]] = []
        is_tabled = False
        while first or source.peek() != "]":
            self.skip_blank()
            found = next((sign for sign in ("&&", "--", "~~") if not first and source.take(sign)), "")
            if found:
                left, operation, ranges = _combined(left, operation, characters.union(ranges)), found, []
            elif source.peek() != "]" or first:
                more, tabled = self.rust_item(first)
                ranges += more
                is_tabled |= tabled
            first = False
        source.at += 1
        whole = _combined(left, operation, characters.union(ranges))
        if not negative:
            return whole
        return self.opposite(whole) if is_tabled and whole else characters.complement(whole)

    def rust_item(self, first: bool) -> tuple[Ranges, bool]:
        """An item of a set or a range of two, and whether it comes from tables of Unicode."""
        source = self.source
        if not first and source.peek() == "[":
            named = self.posix()
            source.at += named is None
            return (self.rust_set() if named is None else named), True
        if first and source.peek() == "-":
            while source.take("-"):
                self.skip_blank()
            return ((45, 45),), False
        if first and source.peek() == "[":
            return self.rust_item(False)
        low = self.item()
        self.skip_blank()
        is_range = source.peek() == "-" and not source.pattern.startswith(("]", "-"), source.at + 1)
        if not is_range:
            return self.cased_item(low)
        source.at += 1
        self.skip_blank()
        high = self.item()
        if not isinstance(low, int) or not isinstance(high, int):
            raise source.error("a class such as \\w cannot begin or end a range")
        return self.cased(characters.intersection((self.span(low, high),), characters.SCALARS)), False

    def cased_item(self, item: int | Ranges) -> tuple[Ranges, bool]:
        if isinstance(item, int):
            return self.literal(item).ranges, False
        return self.cased(item), True

    def posix(self) -> Ranges | None:
        """`[:alpha:]` or `[:^alpha:]`, read if it comes next."""
        source = self.source
        end = source.pattern.find(":]", source.at)
        if not source.pattern.startswith("[:", source.at) or end < 0:
            return None
        name = source.pattern[source.at + 2 : end]
        known = POSIX.get(name.removeprefix("^"))
        if known is None:
            return None
        source.at = end + 2
        return characters.complement(self.cased(known)) if name.startswith("^") else self.cased(known)

    def skip_blank(self) -> None:
        """In verbose mode Rust's sets may hold white space that means nothing."""
        while self.flags.verbose and self.source.peek().isspace():
            self.source.at += 1


def _ranges(item: int | Ranges) -> Ranges:
    return ((item, item),) if isinstance(item, int) else item


def _combined(left: Ranges | None, operation: str, right: Ranges) -> Ranges:
    if left is None:
        return right
    if operation == "&&":
        return characters.intersection(left, right)
    if operation == "--":
        return characters.difference(left, right)
    return characters.union((*characters.difference(left, right), *characters.difference(right, left)))
