"""The public door to tags in free text; they are read in `stemma.fsm.languages.structural_tags`."""

from stemma.fsm.languages.structural_tags import StructuralTags, Tag

__all__ = ["StructuralTags", "Tag"]
