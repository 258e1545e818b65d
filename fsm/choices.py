"""The public door to one of several texts; they are read in `stemma.fsm.languages.choices`."""

from stemma.fsm.languages.choices import Choices

__all__ = ["Choices"]
