"""All Python of all pages is run by some test, or is a quotation."""

from __future__ import annotations

import threading
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.radix import PrefixCache
from tests.docs.pages import OWN_ENGINES, PARTS, PROGRAMS, QUOTES, page, pages, served
from tests.runtime.model.test_hugging_face import write_folder
from tests.stemma.server.live import wait_until


def run(name: str, number: int, **given: Any) -> dict[str, Any]:
    names = {"__name__": "page", **given}
    exec(compile(page(name).blocks("python")[number], f"{name}, block {number}", "exec", dont_inherit=True), names)
    return names


def test_every_block_is_run_or_quoted() -> None:
    run_somewhere = {*PROGRAMS, *OWN_ENGINES, *PARTS, *(found.name for found in served())}
    with_python = [found.name for found in pages() if found.blocks("python", "py")]
    left = [name for name in with_python if name not in run_somewhere]
    assert [name for name in left if not any(fnmatch(name, quoted) for quoted in QUOTES)] == []
    assert [len(page(name).blocks("python")) for name in PARTS] == [3, 1, 1, 1, 1]


def test_a_prefix_is_published_and_kept() -> None:
    prompt = list(range(40))
    cache = run("docs/radix.md", 0, prompt=prompt)["cache"]
    with cache.acquire(prompt, namespace="tenant") as lease:
        assert lease.hit_len >= 32
    small = PrefixCache(num_blocks=8, block_size=16)
    with small.acquire(prompt) as lease:
        lease.reserve(len(prompt))
        lease.extend(prompt)
        run("docs/radix.md", 2, lease=lease, cache=small)
    assert small.stats().leased == 0


def test_a_replica_is_chosen_by_what_it_holds() -> None:
    names = run("docs/scale/README.md", 0)
    assert names["choice"].replica == "replica a", "the block asserts it too"


def test_one_goes_on_from_a_mark() -> None:
    prompt = list(range(100))
    cache = run("docs/radix.md", 1, prompt=prompt)["cache"]
    assert cache.match(prompt[:-1]).hit_len == 99, "a mark is wanted at the last token but one"
    assert cache.match([*prompt, 7]).hit_len >= 99, "a mark that saves one token is not made"


def test_a_matcher_masks_advances_and_goes_back() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    token_bytes = [bytes([byte]) for byte in range(256)] + [None]
    given = {"token_bytes": token_bytes, "special": {}, "eos_ids": [256], "tokenize": list}
    row = np.zeros(9, np.uint32)
    names = run("docs/fsm.md", 0, schema=schema, token=ord("{"), budget=40, row=row, **given)
    assert row[ord("{") >> 5] >> (ord("{") & 31) & 1
    assert not names["matcher"].is_complete


def test_a_model_is_loaded(tmp_path: Path) -> None:
    write_folder(tmp_path)
    ops = ReferenceOps(torch.device("cpu"))
    code = page("docs/model.md").blocks("python")[0].replace("model.gguf", str(tmp_path))
    names: dict[str, Any] = {"ops": ops}
    exec(compile(code, "docs/model.md", "exec"), names)
    assert names["loaded"].tokenizer.decode(names["loaded"].tokenizer.encode("Hello")) == "Hello"


def test_a_mirror_follows_a_cache() -> None:
    pytest.importorskip("zmq", reason="pyzmq is not installed")
    from stemma.scale.events import EventOptions, Publisher

    here = "tcp://127.0.0.1:0"
    cache = run("docs/radix.md", 0, prompt=list(range(40)))["cache"]
    with Publisher(lambda look: look(cache), EventOptions(endpoint=here, replay=here)) as publisher:
        code = page("docs/scale/events.md").blocks("python")[0]
        code = code.replace("tcp://replica:5557", publisher.endpoint).replace("tcp://replica:5558", publisher.replay)
        names: dict[str, Any] = {}
        thread = threading.Thread(target=exec, args=(compile(code, "docs/scale/events.md", "exec"), names))
        thread.start()
        wait_until(lambda: "subscriber" in names and len(names["mirror"].blocks) == 2)
        names["subscriber"].close()
        thread.join(10)
    assert not thread.is_alive()
