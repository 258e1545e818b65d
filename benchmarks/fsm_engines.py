"""The engines of the constraint benchmark behind one face: ours and, from PyPI, llguidance, xgrammar, outlines-core.

The last two are imported when they are asked for: they are not among the packages that the tests need.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Protocol

import llguidance
import llguidance.numpy
import numpy as np
import numpy.typing as npt
from fsm_vocabularies import TokenizerFile

from stemma.fsm import CompiledGrammar, Matcher, compile
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.regex import Regex

Words = npt.NDArray[np.uint32]


class Jump(NamedTuple):
    tokens: list[int]
    drafts: list[int]


class Session(Protocol):
    """One sequence under one grammar."""

    def mask(self, row: Words) -> None: ...
    def advance(self, token: int) -> bool: ...
    def is_complete(self) -> bool: ...
    def forced(self) -> Jump: ...


class Compiled(Protocol):
    def session(self) -> Session: ...


class Engine(Protocol):
    """Compiles; raises on what it refuses."""

    name: str

    def schema(self, schema: Any) -> Compiled: ...
    def regex(self, pattern: str) -> Compiled: ...


class Stemma:
    name = "stemma"

    def __init__(self, file: TokenizerFile, **options: Any) -> None:
        self.vocabulary = file.vocabulary()
        self.options = options

    def schema(self, schema: Any) -> Compiled:
        return StemmaGrammar(compile(JSONSchema(schema, **self.options), self.vocabulary))

    def regex(self, pattern: str) -> Compiled:
        return StemmaGrammar(compile(Regex(pattern), self.vocabulary))


class StemmaGrammar:
    def __init__(self, grammar: CompiledGrammar) -> None:
        self.grammar = grammar

    def session(self) -> Session:
        return StemmaSession(Matcher(self.grammar))


class StemmaSession:
    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.mask = matcher.mask_into
        self.advance = matcher.advance

    def is_complete(self) -> bool:
        return self.matcher.is_complete

    def forced(self) -> Jump:
        forced = self.matcher.forced()
        return Jump(forced.tokens, forced.drafts)


class LLGuidance:
    name = "llguidance"

    def __init__(self, file: TokenizerFile) -> None:
        slices = llguidance.LLTokenizer.json_slices()
        self.tokenizer = llguidance.LLTokenizer(
            file.path.read_text(), eos_token=file.special()[file.eos], slices=slices
        )

    def schema(self, schema: Any) -> Compiled:
        compact = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
        return self._ready(llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=compact))

    def regex(self, pattern: str) -> Compiled:
        return self._ready(llguidance.LLMatcher.grammar_from_regex(pattern))

    def _ready(self, grammar: str) -> Compiled:
        matcher = llguidance.LLMatcher(self.tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return LLGuidanceGrammar(matcher)


class LLGuidanceGrammar:
    def __init__(self, matcher: Any) -> None:
        self.matcher = matcher

    def session(self) -> Session:
        return LLGuidanceSession(self.matcher.deep_copy())


class LLGuidanceSession:
    def __init__(self, matcher: Any) -> None:
        self.matcher = matcher

    def mask(self, row: Words) -> None:
        self.matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)

    def advance(self, token: int) -> bool:
        return bool(self.matcher.try_consume_tokens([token]))

    def is_complete(self) -> bool:
        return bool(self.matcher.is_accepting())

    def forced(self) -> Jump:
        return Jump(self.matcher.compute_ff_tokens(), [])


class XGrammar:
    name = "xgrammar"

    def __init__(self, file: TokenizerFile) -> None:
        import xgrammar

        tokens = [data or b"" for data in file.token_bytes()]
        info = xgrammar.TokenizerInfo(
            tokens, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[file.special()[file.eos]]
        )
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.size = len(tokens)

    def schema(self, schema: Any) -> Compiled:
        compiled = self.compiler.compile_json_schema(
            json.dumps(schema), any_whitespace=False, separators=(",", ":"), strict_mode=False
        )
        return XGrammarGrammar(compiled)

    def regex(self, pattern: str) -> Compiled:
        return XGrammarGrammar(self.compiler.compile_regex(pattern))


class XGrammarGrammar:
    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled

    def session(self) -> Session:
        import xgrammar

        return XGrammarSession(xgrammar.GrammarMatcher(self.compiled, terminate_without_stop_token=False))


class XGrammarSession:
    def __init__(self, matcher: Any) -> None:
        self.matcher = matcher

    def mask(self, row: Words) -> None:
        self.matcher.fill_next_token_bitmask(row.view(np.int32)[None])

    def advance(self, token: int) -> bool:
        return bool(self.matcher.accept_token(token))

    def is_complete(self) -> bool:
        return bool(self.matcher.is_completed())

    def forced(self) -> Jump:
        return Jump([], [])


class Outlines:
    name = "outlines-core"

    def __init__(self, file: TokenizerFile) -> None:
        import outlines_core

        table: dict[bytes, list[int]] = {}
        for token, data in enumerate(file.token_bytes()):
            if data:
                table.setdefault(data, []).append(token)
        self.eos = file.special()[file.eos]
        self.vocabulary = outlines_core.Vocabulary(self.eos, table)

    def schema(self, schema: Any) -> Compiled:
        import outlines_core

        return self.regex(outlines_core.json_schema.build_regex_from_schema(json.dumps(schema), ""))

    def regex(self, pattern: str) -> Compiled:
        import outlines_core

        return OutlinesGrammar(outlines_core.Index(pattern, self.vocabulary), self.eos)


class OutlinesGrammar:
    def __init__(self, index: Any, eos: int) -> None:
        self.index, self.eos = index, eos

    def session(self) -> Session:
        import outlines_core

        return OutlinesSession(outlines_core.Guide(self.index), self.eos)


class OutlinesSession:
    def __init__(self, guide: Any, eos: int) -> None:
        self.guide, self.eos = guide, eos

    def mask(self, row: Words) -> None:
        self.guide.write_mask_into(row.ctypes.data, len(row), 4)

    def advance(self, token: int) -> bool:
        if not self.guide.accepts_tokens([token]):
            return False
        self.guide.advance(token, return_tokens=False)
        return True

    def is_complete(self) -> bool:
        return bool(self.guide.is_finished())

    def forced(self) -> Jump:
        return Jump([], [])


ENGINES = {"stemma": Stemma, "llguidance": LLGuidance, "xgrammar": XGrammar, "outlines-core": Outlines}
