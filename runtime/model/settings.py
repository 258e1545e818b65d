"""Settings of a model's files, each of which is used, known to be without effect, or refused by its name: one that is
ignored changes the numbers in silence. Reads no file."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NoReturn

from stemma.runtime.errors import ModelFileError, UnsupportedModel

WITHOUT_EFFECT = frozenset(
    ("add_cross_attention", "architectures", "attention_dropout", "attn_implementation", "attn_pdrop", "auto_map",
     "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "chunk_size_feed_forward",
     "cross_attention_hidden_size", "custom_pipelines", "decoder_start_token_id", "diversity_penalty", "do_sample",
     "dtype", "early_stopping", "embd_pdrop", "encoder_no_repeat_ngram_size", "eos_token_id",
     "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id",
     "gradient_checkpointing", "hidden_dropout", "id2label", "initializer_range", "is_decoder", "is_encoder_decoder",
     "is_llama_config", "label2id", "length_penalty", "max_length", "max_new_tokens", "max_seq_len",
     "max_sequence_length", "min_length", "model_max_length", "n_ctx", "no_repeat_ngram_size", "num_beam_groups",
     "num_beams", "num_labels", "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores",
     "pad_token_id", "prefix", "pretraining_tp", "problem_type", "pruned_heads", "remove_invalid_values",
     "repetition_penalty", "resid_pdrop", "residual_dropout", "return_dict", "return_dict_in_generate",
     "sep_token_id", "seq_length", "suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss",
     "tie_encoder_decoder", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
     "transformers.js_config", "transformers_version", "typical_p", "unsloth_fixed", "unsloth_version",
     "use_bfloat16", "use_cache")
)  # fmt: skip
"""Names in a config.json that change no number of any model: what it is and how it was made, how transformers runs it,
what a classifier over it would say, tokens and sampling (which are read elsewhere), and what is met on the hub and read
by nobody."""


ASKED_CONTEXT = "_asked_context"
"""A setting of no file: tokens of context that whoever loads the model asks for."""


MOST = 1 << 31
MOST_OF = MappingProxyType({"num_hidden_layers": 1 << 13, "max_position_embeddings": 1 << 28})
"""What no size of a model comes near: beyond it a file is damaged, and making its layers or rotations would take hours.
"""


class Settings:
    """Settings by name that remember which were asked for."""

    def __init__(
        self, values: Mapping[str, Any], place: str, prefix: str = "", names: Mapping[str, str] = MappingProxyType({}),
        defaults: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """place: the file, as messages name it. prefix: what stands before every name in it. names: what settings are
        called in it that are called otherwise here. defaults: what the family means by a setting that is not there; a
        null is none of it."""
        self.place = place
        self._values = values
        self._prefix = prefix
        self._names = names
        self._defaults = defaults
        self._used: set[str] = set()
        self._last = ""

    def with_values(self, values: Mapping[str, Any]) -> Settings:
        """These and more, by their names in the file; what was asked for before counts."""
        more = Settings({**self._values, **values}, self.place, self._prefix, self._names, self._defaults)
        more._used |= self._used
        return more

    def _own(self, name: str) -> str:
        """What it is called in the file."""
        return self._prefix + self._names.get(name, name)

    def get(self, name: str, default: Any = None) -> Any:
        """A setting; what the family means if it is not there; the default if that is nothing, or it is null."""
        own = self._last = self._own(name)
        self._used.add(own)
        value = self._values[own] if own in self._values else self._defaults.get(name)
        return default if value is None else value

    def need(self, name: str) -> Any:
        """A setting that must be there. Raises ModelFileError."""
        value = self.get(name)
        if value is None:
            raise ModelFileError(f"{self.place} has no value {self._own(name)!r}; fetch or convert the model again")
        return value

    def number(self, name: str, default: int | None = None) -> int:
        """A positive whole number, one for all layers."""
        value = self.get(name, default)
        value = self.need(name) if value is None else value
        if isinstance(value, list) and len(set(map(str, value))) == 1:
            value = value[0]
        if isinstance(value, list):
            raise UnsupportedModel(f"{self.place} gives each layer its own {self._own(name)!r}, which is not run")
        most = MOST_OF.get(name, MOST)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < most:
            raise ModelFileError(
                f"{self._own(name)!r} in {self.place} is {value!r}, no positive whole number below {most}"
            )
        return value

    def amount(self, name: str, default: float | None = None) -> float:
        """A positive number, which a null is not; where there is none, what the family means, or the default."""
        value = self.need(name) if default is None or self._is_null(name) else self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ModelFileError(f"{self._own(name)!r} in {self.place} is {value!r}, no positive number")
        return value

    def is_on(self, name: str, default: bool) -> bool:
        """Whether a switch is on; a null is off."""
        return bool(self.get(name, default)) and not self._is_null(name)

    def _is_null(self, name: str) -> bool:
        """Whether the file says null, not whether it says nothing."""
        own = self._own(name)
        return own in self._values and self._values[own] is None

    def meant(self, name: str) -> Any:
        """What the family means by a setting that is not there, whether it is there or not."""
        return self._defaults.get(name)

    @contextmanager
    def wrong_kinds_refused(self) -> Iterator[None]:
        """Raises ModelFileError where a value is of another kind than it is read as, with what was asked last."""
        try:
            yield
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise ModelFileError(
                f"{self.place} has a value that is of the wrong kind or size, {self._last!r} or one that it belongs to "
                f"({error}); correct it, or fetch the model again"
            ) from error

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raises UnsupportedModel for a setting that is not run as it is."""
        raise UnsupportedModel(f"{self.place} sets {self._own(name)!r} to {self.get(name)!r}: {why}")

    def check_all_used(self, without_effect: Collection[str]) -> None:
        """Raises UnsupportedModel for a setting that is on, was not asked for and is not known to be without effect."""
        for key, value in self._values.items():
            name = key.removeprefix(self._prefix)
            ours = key.startswith(self._prefix) and not name.startswith("_")
            if ours and value and key not in self._used and name not in without_effect:
                self.refuse(name, "this version does not know what it does, so the model could answer nonsense; if it "
                            "changes nothing, take it out of the file")  # fmt: skip
