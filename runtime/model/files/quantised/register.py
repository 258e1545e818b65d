"""Which method quantised a folder, and its reader. A setting that is not known is refused: it could change numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.files.quantised import awq, bitsandbytes, compressed, fp8, gptq, mxfp4
from stemma.runtime.model.files.quantised.blocks import Folder

log = logging.getLogger(__name__)


class Method(NamedTuple):
    """read: changes the folder's tensors in place. names: settings that it knows."""

    read: Callable[[Mapping[str, Any], Folder], None]
    names: frozenset[str]


FP8 = Method(fp8.read_fp8, fp8.USED | fp8.WITHOUT_EFFECT)
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "gptq": Method(gptq.read_gptq, gptq.USED | gptq.WITHOUT_EFFECT),
        "awq": Method(awq.read_awq, awq.USED | awq.WITHOUT_EFFECT),
        "compressed-tensors": Method(compressed.read_compressed, compressed.USED | compressed.WITHOUT_EFFECT),
        "fp8": FP8, "fbgemm_fp8": FP8, "modelopt": FP8,
        "mxfp4": Method(mxfp4.read_mxfp4, mxfp4.USED | mxfp4.WITHOUT_EFFECT),
        "bitsandbytes": Method(bitsandbytes.read_bitsandbytes, bitsandbytes.USED | bitsandbytes.WITHOUT_EFFECT),
    }
)  # fmt: skip


def read_quantised(settings: Mapping[str, Any], tensors: Mapping[str, StoredWeight]) -> dict[str, StoredWeight]:
    """The tensors with quantised modules as matrices that kernels read; others stay as they are.

    settings: the quantization_config. Raises UnsupportedModel for a method or a setting that is not read,
    ModelFileError for parts that are missing or do not fit.
    """
    name = settings.get("quant_method") or ("bitsandbytes" if settings.get("load_in_4bit") else None)
    method = METHODS.get(str(name))
    if method is None:
        raise UnsupportedModel(
            f"safetensors quantised by {name!r} are not read; read are {', '.join(METHODS)}; use one of these, the "
            "original, or a GGUF file"
        )
    known = method.names | {"quant_method"} | ({"method"} if settings.get("method") == name else set())
    if unknown := sorted(key for key, value in settings.items() if value and key not in known):
        raise UnsupportedModel(
            f"quantization_config sets {unknown[0]!r} to {settings[unknown[0]]!r}, and this version does not know what "
            "it does; if it changes nothing, take it out of the file"
        )
    folder = Folder(tensors)
    try:
        method.read(settings, folder)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise ModelFileError(
            f"matrices quantised by {name}, or the quantization_config that tells of them, have another form than it "
            f"gives them ({error}); fetch the model again"
        ) from error
    for reason, count in folder.widened.items():
        log.warning("%d matrices quantised by %s are read as floats: %s", count, name, reason)
    return folder.tensors
