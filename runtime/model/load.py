"""From a place to a model that is ready: finds the files, reads the checkpoint, packs the weights for a device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.ops import Ops
from stemma.runtime.errors import InvalidRequest, ModelFileError, ModelNotFound
from stemma.runtime.model.checkpoint import Checkpoint, Stored, TokenizerFiles
from stemma.runtime.model.config import EmbeddingDefaults, GenerationDefaults, ModelConfig
from stemma.runtime.model.families.family import Model
from stemma.runtime.model.files.adapters.merge import merged
from stemma.runtime.model.files.adapters.named import read_loras
from stemma.runtime.model.files.adapters.read import read_adapter
from stemma.runtime.model.files.gguf_file import read_gguf
from stemma.runtime.model.files.hub import HUB_ID, fetch_from_hub
from stemma.runtime.model.files.hugging_face import read_hugging_face
from stemma.runtime.model.files.mistral_folder import is_mistrals_own, read_mistral
from stemma.runtime.model.files.naming import name_of
from stemma.runtime.model.parts.adapted_ops import AdaptedOps, Span, cannot_be_chosen
from stemma.runtime.model.parts.adapted_weights import AdaptedWeights, Lora
from stemma.runtime.model.parts.decoder import Decoder
from stemma.runtime.model.parts.sharded_ops import Group, ShardedOps
from stemma.runtime.model.parts.sharded_weights import ShardedWeights
from stemma.runtime.model.shards import Division, Shard
from stemma.runtime.model.text.chat import ChatTemplate
from stemma.runtime.model.text.tokenizer import Tokenizer
from stemma.runtime.model.weights import Progress, Weights
from stemma.runtime.model.work import Work, work_of


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with all that belongs to it. chat_template is None for a base model without one.

    name: what people call it, by where it came from; `config.name` is what its files say.
    tokenizer_files: what the tokenizer and the template were made of, for those who run them elsewhere.
    stored: how it lies on disk. work: what a step of it reads and does.
    embedding: how it makes embeddings, if it was made for that.
    loras: adapters of which each request may choose one, if it was loaded with any.
    """

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    generation: GenerationDefaults
    model: Model
    tokenizer_files: TokenizerFiles
    stored: Stored
    work: Work
    embedding: EmbeddingDefaults | None = None
    loras: Loras | None = None


@dataclass(frozen=True, slots=True)
class ModelText:
    """What of a model writes prompts: all but its network. For who reads requests and computes nothing.

    digests: of the adapters that requests may choose, by name.
    """

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    generation: GenerationDefaults
    digests: Mapping[str, str]


class Part(NamedTuple):
    """One rank's share of a model. group: meets the other ranks, once it is known that the model can be divided."""

    shard: Shard
    group: Callable[[Division], Group]


class Loras(NamedTuple):
    """Adapters that stand beside a model.

    digests: of each, by name. step: inside, a step's rows are computed with the adapters that it is given.
    """

    digests: Mapping[str, str]
    step: Callable[[Sequence[Span]], AbstractContextManager[None]]


def load(
    source: str | Path, ops: Ops, progress: Progress | None = None, *, adapters: Sequence[str | Path] = (),
    loras: Mapping[str, str | Path] = MappingProxyType({}), context_length: int | None = None,
    part: Part | None = None,
) -> LoadedModel:  # fmt: skip
    """Load a model for the device of `ops`.

    source: a .gguf file, a folder in Hugging Face's form (config.json, tokenizer.json, *.safetensors) or in Mistral's
        own (params.json, tekken.json, consolidated.safetensors), or a hub id.
    adapters: folders of PEFT, GGUF files or hub ids, merged into the model in this order.
    loras: likewise, by names, merged into nothing: each request chooses one of them, or none.
    context_length: tokens that will be asked of it, by which a model whose rotation changes with the length (LongRoPE,
        dynamic) is set for the longer context or the one it was trained on, where None leaves it.
    part: of a model that several ranks compute; its configuration is then that of the part.
    Raises InvalidRequest for the name of an adapter, ModelNotFound, ModelFileError or UnsupportedModel, each saying
    what to do.
    """
    checkpoint = read_checkpoint(source, context_length)
    for adapter in adapters:
        checkpoint = merged(checkpoint, read_adapter(adapter, checkpoint.config))
    if part is None:
        return replace(assemble(checkpoint, ops, progress, read_loras(checkpoint, loras)), name=name_of(source))
    if loras:
        raise InvalidRequest("adapters of single requests are not divided among ranks: merge one (adapters=)", "loras")
    return replace(assemble_part(checkpoint, ops, part, progress), name=name_of(source))


def load_text(
    source: str | Path, *, loras: Mapping[str, str | Path] = MappingProxyType({}), context_length: int | None = None
) -> ModelText:
    """What of a model writes prompts; its weights are not read. Raises as `load`."""
    checkpoint = read_checkpoint(source, context_length)
    digests = {name: lora.digest for name, lora in read_loras(checkpoint, loras).items()}
    return replace(text_of(checkpoint), name=name_of(source), digests=digests)


def text_of(checkpoint: Checkpoint) -> ModelText:
    """Without adapters, called what it calls itself."""
    config = checkpoint.config
    return ModelText(config.name, config, *_text_of(checkpoint), checkpoint.generation, {})


def read_checkpoint(source: str | Path, context_length: int | None = None) -> Checkpoint:
    """Read a model without packing it; its tensors are memory maps."""
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return read_gguf(path, context_length)
    if path.is_dir():
        return _read_folder(path, context_length)
    if path.exists():
        raise ModelNotFound(f"{path} is neither a .gguf file nor a folder; give one of these or a hub id")
    if isinstance(source, str) and HUB_ID.fullmatch(source):
        return _read_folder(fetch_from_hub(source), context_length)
    raise ModelNotFound(f"there is no {source}; give a .gguf file, a model folder, or a hub id like owner/name")


def _read_folder(path: Path, context_length: int | None) -> Checkpoint:
    read = read_mistral if is_mistrals_own(path) else read_hugging_face
    return read(path, context_length)


def _check_numbers(config: ModelConfig) -> None:
    try:
        msgspec.convert(msgspec.to_builtins(config), ModelConfig)
    except msgspec.ValidationError as error:
        raise ModelFileError(
            f"the model's settings make a configuration of the wrong kinds ({error}); correct them, or fetch the model "
            "again"
        ) from error
    ropes = {layer.rope for layer in config.layers if layer.rope is not None} | {config.rope}
    numbers: list[tuple[str, float]] = [("norm_epsilon", config.norm_epsilon)]
    for rope in ropes:
        numbers += [("rope theta", rope.theta), ("factor of rotated heads", rope.amplitude)]
        numbers += [("factor of rotary frequencies", factor) for factor in rope.factors]
    for name, value in numbers:
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise ModelFileError(f"the model's {name} is {value!r}, which is no positive number; fetch the model again")
    if config.experts is not None:
        _check_experts(config.experts.count, config.experts.spec)


def _check_experts(count: int, spec: ExpertsSpec) -> None:
    fewest = 2 if spec.group_score == "two best" else 1  # of a group that is scored
    if spec.groups > 1 and (count % spec.groups or count // spec.groups < fewest):
        raise ModelFileError(f"{count} experts do not stand in {spec.groups} groups; fetch the model again")
    if spec.top_k > count or spec.top_groups > spec.groups:
        raise ModelFileError(
            f"of {count} experts in {spec.groups} groups none can choose {spec.top_k}, of {spec.top_groups} groups; "
            "fetch the model again"
        )


def assemble_part(
    checkpoint: Checkpoint, ops: Ops, part: Part, progress: Progress | None = None
) -> LoadedModel:  # fmt: skip
    """Pack a rank's part of a checkpoint. Raises InvalidRequest for a model that cannot be divided so."""
    division = Division(checkpoint.config, part.shard)
    config = division.config()
    _check_numbers(config)
    weights = Weights(checkpoint.tensors, progress, checkpoint.file_names)
    with ops.on_device():
        model = Decoder(config, ShardedWeights(weights, division), ShardedOps(ops, part.group(division)))
    weights.check_all_taken()
    return _loaded(checkpoint, config, model, None)


def assemble(
    checkpoint: Checkpoint, ops: Ops, progress: Progress | None = None,
    loras: Mapping[str, Lora] = MappingProxyType({}),
) -> LoadedModel:  # fmt: skip
    """Pack a checkpoint for a device, with adapters beside it. It is called what it calls itself."""
    config = checkpoint.config
    _check_numbers(config)
    weights = Weights(checkpoint.tensors, progress, checkpoint.file_names)
    with ops.on_device():
        if loras:
            adapted = AdaptedOps(ops)
            model = Decoder(config, AdaptedWeights(weights, loras), adapted)
            _check_used(loras, adapted)
            beside = Loras({name: each.digest for name, each in loras.items()}, adapted.step)
        else:
            model, beside = Decoder(config, weights, ops), None
    weights.check_all_taken()
    return _loaded(checkpoint, config, model, beside)


def _loaded(checkpoint: Checkpoint, config: ModelConfig, model: Model, beside: Loras | None) -> LoadedModel:
    return LoadedModel(
        config.name, config, *_text_of(checkpoint), checkpoint.generation, model, checkpoint.tokenizer,
        checkpoint.stored, work_of(checkpoint), checkpoint.embedding, beside,
    )  # fmt: skip


def _text_of(checkpoint: Checkpoint) -> tuple[Tokenizer, ChatTemplate | None]:
    """A checkpoint's tokenizer, and its chat template if it has one."""
    tokenizer = Tokenizer(checkpoint.tokenizer, checkpoint.config.vocab_size)
    source = checkpoint.tokenizer.chat_template
    return tokenizer, None if source is None else ChatTemplate(source, tokenizer, checkpoint.tokenizer.tool_template)


def _check_used(loras: Mapping[str, Lora], ops: AdaptedOps) -> None:
    """Raises UnsupportedModel if a matrix that an adapter changes is part of something else than a product."""
    for name, each in loras.items():
        for matrix in each.changes:
            if (name, matrix) not in ops.used:
                raise cannot_be_chosen(name, matrix, "it is multiplied into others when the model is loaded")
