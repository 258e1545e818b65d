"""Layer 1: models and their text. A place on disk or on the hub becomes a network, a tokenizer and a chat template.
Knows nothing of requests, grammars or sampling."""

from stemma.runtime.model.config import GenerationDefaults, MarkNeeds, ModelConfig
from stemma.runtime.model.families.family import Model
from stemma.runtime.model.load import LoadedModel, Loras, ModelText, load, load_text
from stemma.runtime.model.parts.adapted_ops import Span
from stemma.runtime.model.text.chat import ChatTemplate
from stemma.runtime.model.text.tokenizer import Detokenizer, Tokenizer

__all__ = [
    "ChatTemplate",
    "Detokenizer",
    "GenerationDefaults",
    "LoadedModel",
    "Loras",
    "MarkNeeds",
    "Model",
    "ModelConfig",
    "ModelText",
    "Span",
    "Tokenizer",
    "load",
    "load_text",
]
