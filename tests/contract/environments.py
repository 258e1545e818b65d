"""Clients that cannot share an environment with Stemma or with each other, and how their environments are made.

    python tests/contract/environments.py            # all of them, under the user's cache directory
    python tests/contract/environments.py sglang

NPM holds the packages of npm/package.json. A client's program is clients/NAME_client.py; it is called with the server's
URL, a key and the model's name, prints "ok", and knows nothing of Stemma.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path.home() / ".cache" / "stemma-contract"
NPM = FOLDER / "npm"
NPM_PROGRAMS = Path(__file__).parent / "npm"

STEPS: dict[str, tuple[str, ...]] = {
    # The frontend language alone: the wheel without its runtime's requirements, and what importing it needs.
    "sglang": (
        "--no-deps sglang==0.5.23",
        "aiohttp ipython msgspec numpy orjson packaging pillow psutil pybase64 pydantic pyzmq requests starlette "
        "torch==2.13.0 tqdm",
    ),
    "frameworks": ("llama-index-llms-openai-like haystack-ai smolagents[openai] langchain-openai",),
    "agents": ("autogen-agentchat autogen-ext[openai] openai-agents semantic-kernel",),
    "anthropic": ("anthropic>=2.14",),
    "mcp": ("mcp-server-time",),
    "ollama": ("ollama",),
    "structured": ("outlines[openai] magentic agno[openai] guidance",),
}


def interpreter(name: str) -> Path:
    """The Python of an environment, whether or not it was made."""
    return FOLDER / name / "bin" / "python"


def make(name: str) -> None:
    """Make an environment anew."""
    venv.create(FOLDER / name, clear=True, with_pip=True)
    for step in STEPS[name]:
        subprocess.run([interpreter(name), "-m", "pip", "install", "--quiet", *step.split()], check=True)


def make_npm() -> None:
    """Install the npm packages."""
    NPM.mkdir(parents=True, exist_ok=True)
    shutil.copy(NPM_PROGRAMS / "package.json", NPM)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=NPM, check=True)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [*STEPS, "npm"]:
        if wanted == "npm":
            make_npm()
        else:
            make(wanted)
        print(f"{wanted} is ready")
