"""The public door to Lark grammars; they are read in `stemma.fsm.languages.lark.lark`."""

from stemma.fsm.languages.lark.lark import Lark

__all__ = ["Lark"]
