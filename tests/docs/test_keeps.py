"""The table of what models keep is that of the source, and says what is known of their sizes."""

from __future__ import annotations

from docs.draw_keeps import BEGIN, END, MODELS, PAGE, block, kv_bytes
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.families.register import FAMILIES
from stemma.runtime.model.tiny import tiny_config


def test_the_table_is_drawn_as_it_is() -> None:
    """`python docs/draw_keeps.py` draws it anew."""
    drawn = PAGE.read_text("utf-8").split(BEGIN)[1].split(END)[0]
    assert drawn == block()


def test_sizes_by_hand() -> None:
    """Heads, layers and taps multiplied as the papers have them."""
    gemma = read_config(MODELS["Gemma 4 E2B"], "").memory_shape(1, 1)
    assert (kv_bytes(gemma.full), kv_bytes(gemma.window)) == (3 * 2 * 512 * 2, 12 * 2 * 256 * 2)
    states = read_config(MODELS["Mamba-2 130M"], "").memory_shape(1, 1).states
    assert states is not None
    assert states.slot_bytes == 24 * 4 * (24 * 64 * 128 + (24 * 64 + 2 * 128) * 3)


def test_every_kind_of_family_with_marks_is_there() -> None:
    """Families whose tiny model needs a mark are in the table, or one of their relatives is."""
    relatives = {"gemma2": "gemma3_text", "mistral": "llama", "lfm2_moe": "lfm2", "qwen3_5_moe_text": "qwen3_5_text",
                 "cohere2": "gemma3_text", "exaone4": "gemma3_text"}  # fmt: skip
    shown = {raw["model_type"] for raw in MODELS.values()}
    missing = {
        family for family in FAMILIES if tiny_config(family).marks and relatives.get(family, family) not in shown
    }  # fmt: skip
    assert missing == set()
