"""Draws the table of what models keep into docs/model.md, from their configurations and the pools that these ask for.

    python docs/draw_keeps.py

The sizes are those of the published config.json files, as far as memory depends on them. KV is counted with 16 bits a
number, without the scales of a back end's own form; states have 32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stemma.kernels.ops import KVShape
from stemma.runtime.model import ModelConfig
from stemma.runtime.model.families.folder_config import read_config

PAGE = Path(__file__).parent / "model.md"
BEGIN, END = "<!-- keeps: made by docs/draw_keeps.py -->\n", "<!-- end of keeps -->\n"
HEAD = (
    "| model | layers: full, window, state | KV a token, full layers | KV a mark, windows "
    "| states a mark | as much as |\n|---|---|---|---|---|---|\n"
)


def sizes(
    model_type: str, layers: int, hidden: int, heads: tuple[int, int, int], context: int, **more: Any
) -> dict[str, Any]:  # fmt: skip
    """heads: how many, how many of keys and values, and the numbers of each."""
    number, kv, size = heads
    return {"model_type": model_type, "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": number,
            "num_key_value_heads": kv, "head_dim": size, "max_position_embeddings": context, "vocab_size": 32000,
            "intermediate_size": 4 * hidden, **more}  # fmt: skip


def every(count: int, step: int, kinds: tuple[str, str]) -> list[str]:
    """Layers of the first kind, but each `step`-th of the second."""
    return [kinds[(layer + 1) % step == 0] for layer in range(count)]


def at(count: int, places: tuple[int, ...], kinds: tuple[str, str]) -> list[str]:
    """Layers of the first kind, but these of the second."""
    return [kinds[layer in places] for layer in range(count)]


SLIDES, DELTA = ("sliding_attention", "full_attention"), ("linear_attention", "full_attention")
RULE = {"linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4}  # fmt: skip
NEMOTRON = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"
MODELS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "Llama 3.2 1B": sizes("llama", 16, 2048, (32, 8, 64), 131072),
        "Gemma 3 1B": sizes("gemma3_text", 26, 1152, (4, 1, 256), 32768, sliding_window=512),
        "Gemma 4 E2B": sizes(
            "gemma4_text", 35, 1536, (8, 1, 256), 131072, layer_types=every(35, 5, SLIDES), num_kv_shared_layers=20
        ),
        "gpt-oss-20b": sizes("gpt_oss", 24, 2880, (64, 8, 64), 131072, num_local_experts=32),
        "OLMo 3 7B": sizes("olmo3", 32, 4096, (32, 32, 128), 65536, sliding_window=4096),
        "Qwen3.5-0.8B": sizes(
            "qwen3_5_text", 24, 1024, (8, 2, 256), 262144, layer_types=every(24, 4, DELTA), linear_num_value_heads=16,
            **RULE,
        ),
        "Qwen3-Next-80B-A3B": sizes(
            "qwen3_next", 48, 2048, (16, 2, 256), 262144, layer_types=every(48, 4, DELTA), linear_num_value_heads=32,
            **RULE,
        ),
        "Granite 4.0 H Tiny": sizes(
            "granitemoehybrid", 40, 1536, (12, 4, 128), 131072,
            layer_types=at(40, (5, 15, 25, 35), ("mamba", "attention")),
            mamba_n_heads=48, mamba_d_head=64, mamba_d_state=128, mamba_n_groups=1, mamba_d_conv=4, mamba_expand=2,
            position_embedding_type="nope", num_local_experts=64, num_experts_per_tok=6, shared_intermediate_size=1024,
        ),
        "Nemotron-H 8B": sizes(
            "nemotron_h", 52, 4096, (32, 8, 128), 8192, hybrid_override_pattern=NEMOTRON, mamba_num_heads=128,
            mamba_head_dim=64, ssm_state_size=128, n_groups=8, conv_kernel=4,
        ),
        "Falcon-H1 0.5B": sizes(
            "falcon_h1", 36, 1024, (8, 2, 64), 16384, mamba_d_ssm=1536, mamba_n_heads=24, mamba_d_head=64,
            mamba_d_state=128, mamba_n_groups=1, mamba_d_conv=4,
        ),
        "LFM2-350M": sizes(
            "lfm2", 16, 1024, (16, 8, 64), 128000, conv_L_cache=3,
            layer_types=at(16, (2, 5, 8, 10, 12, 14), ("conv", "full_attention")),
        ),
        "Mamba-2 130M": {
            "model_type": "mamba2", "num_hidden_layers": 24, "hidden_size": 768, "num_heads": 24, "head_dim": 64,
            "state_size": 128, "n_groups": 1, "conv_kernel": 4, "expand": 2, "vocab_size": 50288,
        },
    }
)  # fmt: skip


def kv_bytes(pool: KVShape | None) -> int:
    """Of one token in all layers of a pool, 16 bits a number."""
    if pool is None:
        return 0
    numbers = pool.head_dim if pool.value_dim else 2 * pool.head_dim
    return 2 * pool.num_layers * pool.num_kv_heads * numbers


def row(name: str, config: ModelConfig) -> str:
    shape, marks = config.memory_shape(1, 1, num_window_blocks=1, num_slots=1), config.marks
    window = 0 if marks is None or marks.window is None else (marks.window - 1) * kv_bytes(shape.window)
    states = 0 if shape.states is None else shape.states.slot_bytes
    layers = (
        shape.full.num_layers, 0 if shape.window is None else shape.window.num_layers,
        0 if shape.states is None else len(shape.states.layers),
    )  # fmt: skip
    token = kv_bytes(shape.full)
    worth = f"{round((window + states) / token):,} tokens" if token and (window or states) else ""
    numbers = [f"{number:,}" if number else "" for number in (token, window, states)]
    return f"| {name} | {', '.join(map(str, layers))} | {' | '.join(numbers)} | {worth} |\n"


def rows() -> Iterator[str]:
    for name, raw in MODELS.items():
        yield row(name, read_config(raw, name))


def block() -> str:
    """What stands between BEGIN and END."""
    return HEAD + "".join(rows())


def main() -> None:
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + block() + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
