"""The public door to regular expressions; they are read in `stemma.fsm.languages.regex.regex`."""

from stemma.fsm.languages.regex.regex import Regex

__all__ = ["Regex"]
