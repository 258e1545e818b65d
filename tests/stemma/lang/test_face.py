"""The public face: every name is there, and importing it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import stemma


@pytest.mark.parametrize("name", stemma.__all__)
def test_every_name_is_there(name):
    assert getattr(stemma, name) is not None
    assert name in dir(stemma)


def test_an_unknown_name_is_an_attribute_error_that_lists_the_names():
    with pytest.raises(AttributeError, match="program"):
        _ = stemma.programme


def test_importing_it_loads_neither_torch_nor_a_tokenizer():
    heavy = ("torch", "numpy", "tokenizers", "pydantic", "asyncio")
    code = f"import sys, stemma; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
