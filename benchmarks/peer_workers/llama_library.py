"""llama.cpp's library by ctypes: its quantiser, and logits of a text. Runs in a process of its own.

    llama_library.py FOLDER quantise SOURCE.gguf TARGET.gguf FTYPE
    llama_library.py FOLDER logits MODEL.gguf IDS.npy LOGITS.npy

FOLDER holds the libraries, as npm's @node-llama-cpp packages have them. Structures whose layout changes from release to
release are passed as they come from the library's own defaults, in more bytes than they have.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import gguf
import numpy as np


class Opaque(ctypes.Structure):
    """A structure that is passed by value; what lies behind its end is not looked at."""

    _fields_ = [("words", ctypes.c_uint64 * 64)]


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [
        ("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]  # fmt: skip


class Importance(ctypes.Structure):
    """llama_model_imatrix_data: how much each input of a matrix matters."""

    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t)]


class Library:
    def __init__(self, folder: Path) -> None:
        def load(name: str) -> ctypes.CDLL:
            (found,) = folder.glob(f"{name}.v*.so")
            return ctypes.CDLL(str(found), mode=ctypes.RTLD_GLOBAL)

        ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        load("libggml").ggml_backend_load_all_from_path(str(folder).encode())
        self.llama = load("libllama")
        for name in ("llama_model_load_from_file", "llama_init_from_model", "llama_model_get_vocab"):
            getattr(self.llama, name).restype = ctypes.c_void_p
        self.llama.llama_get_logits_ith.restype = ctypes.POINTER(ctypes.c_float)
        self.llama.llama_batch_init.restype = Batch

    def defaults(self, name: str) -> Opaque:
        """Structures of more than 16 bytes are returned through a hidden first argument."""
        found = Opaque()
        getattr(self.llama, name)(ctypes.byref(found))
        return found

    def quantise(self, source: str, target: str, ftype: int) -> int:
        parameters = self.defaults("llama_model_quantize_default_params")
        ctypes.cast(ctypes.byref(parameters), ctypes.POINTER(ctypes.c_int32))[1] = ftype
        every, kept = [], []
        for tensor in gguf.GGUFReader(source).tensors:
            if len(tensor.shape) == 2:
                ones = (ctypes.c_float * int(tensor.shape[0]))(*[1.0] * int(tensor.shape[0]))
                kept.append(ones)
                every.append(Importance(tensor.name.encode(), ones, len(ones)))
        table = (Importance * (len(every) + 1))(*every)
        parameters.words[3] = ctypes.addressof(table)  # imatrix
        return int(self.llama.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)))

    def logits(self, model: str, ids: np.ndarray) -> np.ndarray:
        loaded = self.llama.llama_model_load_from_file(model.encode(), self.defaults("llama_model_default_params"))
        parameters = self.defaults("llama_context_default_params")
        words = ctypes.cast(ctypes.byref(parameters), ctypes.POINTER(ctypes.c_uint32))
        words[0] = words[1] = words[2] = 512  # n_ctx, n_batch, n_ubatch
        context = ctypes.c_void_p(self.llama.llama_init_from_model(ctypes.c_void_p(loaded), parameters))
        batch = self.llama.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids.tolist()):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
            batch.seq_id[place][0], batch.logits[place] = 0, 1
        if self.llama.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        vocabulary = ctypes.c_void_p(self.llama.llama_model_get_vocab(ctypes.c_void_p(loaded)))
        size = self.llama.llama_vocab_n_tokens(vocabulary)
        rows = [self.llama.llama_get_logits_ith(context, place) for place in range(len(ids))]
        return np.stack([np.ctypeslib.as_array(row, (size,)).copy() for row in rows])


if __name__ == "__main__":
    library = Library(Path(sys.argv[1]))
    if sys.argv[2] == "quantise":
        sys.exit(library.quantise(sys.argv[3], sys.argv[4], int(sys.argv[5])))
    np.save(sys.argv[5], library.logits(sys.argv[3], np.load(sys.argv[4])))
