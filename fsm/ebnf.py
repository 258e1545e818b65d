"""The public door to grammars in GBNF or EBNF; they are read in `stemma.fsm.languages.ebnf`."""

from stemma.fsm.languages.ebnf import EBNF

__all__ = ["EBNF"]
