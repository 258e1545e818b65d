"""Clients that cannot share an environment with Stemma or with each other, and how their environments are made.

    python tests/contract/environments.py            # all of them, under the user's cache directory
    python tests/contract/environments.py sglang

NPM holds the packages of npm/package.json, PROMPTFOO promptfoo alone. A client's program is clients/NAME_client.py; it
is called with the server's URL, a key and the model's name in an empty folder, prints "ok" and knows nothing of Stemma.
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
PROMPTFOO = FOLDER / "promptfoo"

NPM_INSTALL = ("npm", "install", "--silent", "--no-audit", "--no-fund")

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
    "loops": (
        "agno[openai]==3.1.10 langchain==1.5.2 langchain-openai==1.7.4 langgraph==1.2.24 mirascope[openai]==2.8.2 "
        "smolagents[openai]==1.26.0",
    ),
    "kits": ("google-adk==2.13.0 litellm==1.110.2 openai-agents==0.24.0",),
    "strands": ("strands-agents[openai]==1.62.0",),
    "inspect": ("inspect-ai==0.3.285 openai==3.57.0",),
    "crewai": ("crewai==1.15.30",),
    "browser": ("browser-use==0.13.14",),
    "aider": ("aider-chat==0.86.2",),
    "guidellm": ("guidellm==0.8.1",),
    "aiperf": ("aiperf==0.13.0",),
    "evalscope": ("evalscope[perf]==1.14.1",),
}

PROGRAMS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in STEPS},
    "loops": ("agno", "langgraph", "mirascope", "smolagents"),
    "kits": ("adk", "agents_state"),
    "mcp": (),  # a server of tools (test_mcp_server.py)
}
"""The clients' programs by their environments."""


def interpreter(name: str) -> Path:
    """The Python of an environment, whether or not it was made."""
    return FOLDER / name / "bin" / "python"


def make(name: str) -> None:
    """Make an environment anew, by uv where there is one: it takes seconds where pip takes minutes."""
    uv = shutil.which("uv")
    venv.create(FOLDER / name, clear=True, with_pip=uv is None)
    python = interpreter(name)
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    for step in STEPS[name]:
        subprocess.run([*install, "--quiet", *step.split()], check=True)


def make_npm() -> None:
    """Install the npm packages."""
    NPM.mkdir(parents=True, exist_ok=True)
    shutil.copy(NPM_PROGRAMS / "package.json", NPM)
    subprocess.run(NPM_INSTALL, cwd=NPM, check=True)


def make_promptfoo() -> None:
    """Install promptfoo."""
    PROMPTFOO.mkdir(parents=True, exist_ok=True)
    subprocess.run([*NPM_INSTALL, "promptfoo@0.121.20"], cwd=PROMPTFOO, check=True)


MADE_BY_NPM = {"npm": make_npm, "promptfoo": make_promptfoo}


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [*STEPS, *MADE_BY_NPM]:
        if wanted in MADE_BY_NPM:
            MADE_BY_NPM[wanted]()
        else:
            make(wanted)
        print(f"{wanted} is ready")
