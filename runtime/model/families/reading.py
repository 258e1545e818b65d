"""What most families' settings have in common: sizes, layers with a window, activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from stemma.kernels.ops import Activation
from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.config import Layer, ModelConfig, RopeConfig
from stemma.runtime.model.families.rope_settings import FULL, SLIDING, Rotation, read_rope
from stemma.runtime.model.settings import Settings

ACTIVATIONS: MappingProxyType[str, Activation] = MappingProxyType(
    {"silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh",
     "gelu_fast": "gelu_tanh", "relu2": "relu2"}
)  # fmt: skip
KINDS_OF_LAYERS = frozenset({FULL, SLIDING})


def read_sizes(
    settings: Settings, rotation: Rotation | None = None, epsilon: str = "rms_norm_eps", num_layers: int | None = None
) -> ModelConfig:  # fmt: skip
    """A configuration like Llama's. rotation: None is read as Llama's. epsilon: the setting of the norms'. num_layers:
    where no number says them."""
    num_heads, head_dim = settings.number("num_attention_heads"), read_head_dim(settings)
    rotation = rotation or read_rope(settings, head_dim)
    check_runnable(settings)
    return ModelConfig(
        name="",
        family="",
        num_layers=settings.number("num_hidden_layers") if num_layers is None else num_layers,
        num_heads=num_heads,
        num_kv_heads=settings.number("num_key_value_heads", num_heads),
        head_dim=head_dim,
        hidden=settings.number("hidden_size"),
        intermediate=settings.number("intermediate_size"),
        vocab_size=settings.number("vocab_size"),
        context_length=rotation.context_length,
        norm_epsilon=settings.amount(epsilon, 1e-6),
        rope=rotation.rope,
        tied_embeddings=settings.get("tie_word_embeddings", False),
    )


def read_head_dim(settings: Settings) -> int:
    num_heads, hidden = settings.number("num_attention_heads"), settings.number("hidden_size")
    head_dim = settings.number("head_dim", hidden // num_heads)
    if head_dim % 2:
        settings.refuse("head_dim", f"heads of {head_dim} dimensions cannot be rotated in pairs")
    return head_dim


def check_runnable(settings: Settings) -> None:
    """Raises UnsupportedModel for models that write no text."""
    settings.get("model_type")
    settings.get("quantization_config")  # is the business of whoever reads the tensors
    if not settings.get("is_causal", True):
        settings.refuse("is_causal", "tokens would see what comes behind them, and such models write no text")


def read_activation(settings: Settings, default: Activation = "silu", name: str = "hidden_act") -> Activation:
    """An MLP's activation. Raises UnsupportedModel for one that is not computed."""
    said = settings.get(name)
    if said is None:
        return default
    if said not in ACTIVATIONS:
        settings.refuse(name, f"this activation is not supported; supported: {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[said]


def read_window(settings: Settings, config: ModelConfig, name: str = "sliding_window") -> tuple[Layer, ...]:
    """One window in all layers, if the files say one."""
    window = settings.number(name) if settings.get(name) else None
    return () if window is None else (Layer(config.rope, window),) * config.num_layers


def slides_but_every(settings: Settings, default: int) -> Callable[[int], bool]:
    """Which layers have a window in a file that does not say their kinds: all but every n-th. A GGUF file gives n, or
    says it of each layer."""
    pattern = settings.get("sliding_window_pattern", default)
    if isinstance(pattern, list):
        return lambda layer: bool(pattern[layer])
    return lambda layer: (layer + 1) % settings.number("sliding_window_pattern", default) != 0


def slides_every_other(settings: Settings) -> Callable[[int], bool]:
    """The same in families that know no other pattern. Raises UnsupportedModel for one."""
    slides = slides_but_every(settings, 2)
    if any(slides(layer) != (layer % 2 == 0) for layer in range(settings.number("num_hidden_layers"))):
        settings.refuse("sliding_window_pattern", "every other layer of this type of model has a window")
    return slides


def read_layers(
    settings: Settings, rope: RopeConfig, slides: Callable[[int], bool],
    ropes: tuple[RopeConfig | None, RopeConfig | None] | None = None,
) -> tuple[Layer, ...]:  # fmt: skip
    """What each layer has of its own, by `layer_types`; where a file does not say them, `slides` does. A file's window
    counts for the layers that slide. ropes: of full layers and of those that slide; None is `rope` for both."""
    num_layers = settings.number("num_hidden_layers")
    kinds = settings.get("layer_types")
    if kinds is None:
        kinds = [SLIDING if slides(index) else FULL for index in range(num_layers)]
    unknown = set(kinds) - KINDS_OF_LAYERS
    if unknown:
        settings.refuse("layer_types", f"layers of kind {', '.join(sorted(unknown))} are not supported")
    if len(kinds) < num_layers:
        raise ModelFileError(f"{settings.place} has {num_layers} layers, but 'layer_types' says {len(kinds)}")
    full, sliding = ropes or (rope, rope)
    window = settings.get("sliding_window")
    if SLIDING in kinds[:num_layers]:
        window = settings.number("sliding_window")
    made = tuple(Layer(sliding, window) if kind == SLIDING else Layer(full) for kind in kinds[:num_layers])
    return made if any(layer != Layer(rope) for layer in made) else ()


def read_mixers(
    settings: Settings, num_layers: int, kinds: Mapping[str, Layer], otherwise: Sequence[str]
) -> tuple[Layer, ...]:
    """What each layer has of its own, by `layer_types`. kinds: of the family, by their names. otherwise: of a file that
    does not say them."""
    said = settings.get("layer_types") or otherwise
    unknown = set(said) - kinds.keys()
    if unknown:
        settings.refuse("layer_types", f"layers of kind {', '.join(sorted(unknown))} are not supported")
    if len(said) < num_layers:
        raise ModelFileError(f"{settings.place} has {num_layers} layers, but 'layer_types' says {len(said)}")
    return tuple(kinds[kind] for kind in said[:num_layers])
