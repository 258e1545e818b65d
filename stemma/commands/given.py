"""Arguments that several commands have, and the engine that they ask for."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Model = Annotated[
    str | None, typer.Option(help="A .gguf file, a Hugging Face folder or hub id; SmolLM2-135M if left out.")
]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", help="A LoRA to merge: a PEFT folder, .gguf file or hub id; may be given several times."),
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", help="NAME=SOURCE of a LoRA that requests name as their model; may be given several times."),
]
Draft = Annotated[
    str | None, typer.Option(help="A smaller model with the same vocabulary, that guesses what this one will say.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MaxTokens = Annotated[int, typer.Option(help="The most tokens to generate.")]
Temperature = Annotated[
    float | None, typer.Option(help="0 is greedy; left out, what the model's files recommend, else greedy.")
]
FirstWithin = Annotated[
    float | None,
    typer.Option("--ttft-ms", help="Milliseconds within which the first token must come; else it is an error."),
]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same tokens.")]
Url = Annotated[str, typer.Option(help="Where the server is.")]
Key = Annotated[str | None, typer.Option(help="An API key, if the server wants one.")]
Salt = Annotated[str | None, typer.Option(help="The cache_salt of the requests in question.")]
SavedAs = Annotated[str, typer.Argument(help="What the saved cache is called.")]
HERE = "http://127.0.0.1:8000"


def make_engine(
    model: str | None, adapters: list[str] | None, options: dict[str, Any], loras: dict[str, str] | None = None,
    draft: str | None = None,
) -> Any:  # fmt: skip
    """With progress on standard error."""
    from stemma.runtime.engine import Engine
    from stemma.terminal.progress import progress

    with progress() as report:
        return Engine(
            model, adapters=adapters or (), loras=loras or {}, draft=draft, progress=report, **options
        )  # fmt: skip
