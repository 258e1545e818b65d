"""Pictures of the page at /tree for these pages: `python docs/draw_tree.py`, with Playwright and Chromium.

A server with the default model, three tenants and requests that share prefixes; while the pictures are taken one
answer streams.
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

from stemma import Engine
from stemma.server import ApiKey, ServerConfig, make_server

PICTURES = Path(__file__).parent / "pictures"
KEYS = (ApiKey("harbour", "h"), ApiKey("kitchen", "k"), ApiKey("stories", "s"), ApiKey("operator", "o", is_admin=True))
HANDBOOK = """You answer questions of visitors, from the handbook of the Harbour Lights Museum, in one short sentence.

The lighthouse was built in 1871 from granite and is 41 metres tall. The stairs have 204 steps. The lamp is visible for
22 nautical miles and is lit at dusk. The museum opens at nine and closes at five, on Sundays at noon. Tickets are six
euros, for children three. The walk from the village takes twenty minutes along the cliff. Dogs are welcome on a lead.
The cafe sells soup, cake and tea. The boat to the seal bank leaves at ten and at two if the wind allows."""
QUESTIONS = [
    "How tall is the lighthouse?",
    "How tall is the lighthouse, and how many steps are there?",
    "How long is the walk to the village?",
    "How much is a ticket for a child?",
    "When does the museum open on Sundays?",
    "When does the boat leave?",
    "May I bring my dog?",
    "May I bring my own cake?",
]
DISHES = ["a lemon tart", "a lentil soup", "a lemon cake with poppy seeds", "roasted carrots"]


@contextmanager
def served() -> Iterator[str]:
    """A server, and where it is."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    with Engine(kv_tokens=8192) as engine:
        server = make_server(engine, ServerConfig(api_keys=KEYS, shutdown_seconds=1))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.stop()
        thread.join()


class Visitors:
    """What asks the server."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=600)

    def chat(self, key: str, turns: list[dict[str, str]], max_tokens: int = 16) -> str:
        body = {"messages": turns, "max_tokens": max_tokens, "temperature": 0}
        answer = self._http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
        return str(answer.raise_for_status().json()["choices"][0]["message"]["content"])

    def ask(self, question: str) -> None:
        turns = [{"role": "system", "content": HANDBOOK}, {"role": "user", "content": question}]
        turns.append({"role": "assistant", "content": self.chat("h", turns)})
        if question.startswith("How tall is the lighthouse?"):
            self.chat("h", [*turns, {"role": "user", "content": "And how old?"}])
            self.chat("h", [*turns, {"role": "user", "content": "And what is it made of?"}])

    def cook(self, dish: str) -> None:
        told = [{"role": "system", "content": "You write recipes: what to buy, then what to do, in short lines."}]
        self.chat("k", [*told, {"role": "user", "content": f"A recipe for {dish}, for four, please."}], 24)

    def tell(self, beginning: str, max_tokens: int) -> None:
        body = {"prompt": beginning, "max_tokens": max_tokens, "temperature": 1, "seed": max_tokens, "ignore_eos": True}
        self._http.post("/v1/completions", json=body, headers={"authorization": "Bearer s"}).raise_for_status()

    def come(self) -> None:
        """Some at once, some later."""
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(self.ask, QUESTIONS))
            list(pool.map(self.cook, DISHES))
            story = "Once upon a time, in a small village by the sea, there lived a"
            list(pool.map(lambda length: self.tell(story, length), (20, 24, 28)))


def opened(browser: Any, url: str, width: int, height: int, **options: Any) -> Any:
    """The page, as the operator sees it."""
    context = browser.new_context(viewport={"width": width, "height": height}, bypass_csp=True, **options)
    context.add_init_script("sessionStorage.setItem('stemma-key', 'o')")
    page = context.new_page()
    page.goto(f"{url}/tree")
    page.wait_for_function("document.body.dataset.nodes > 0")
    return page


def take(page: Any, name: str) -> None:
    page.wait_for_timeout(900)
    page.screenshot(path=PICTURES / f"{name}.png")


def main() -> None:
    with served() as url, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        visitors = Visitors(url)
        visitors.ask(QUESTIONS[2])  # warm
        light = opened(browser, url, 1280, 760, color_scheme="light")
        dark = opened(browser, url, 1280, 760, color_scheme="dark")
        phone = opened(
            browser, url, 390, 780, color_scheme="dark", is_mobile=True, has_touch=True, device_scale_factor=2
        )
        visitors.come()
        last = threading.Thread(target=visitors.tell, args=("Once upon a time, in a small village by the sea,", 700))
        last.start()
        visitors.ask(QUESTIONS[5])
        light.locator("#view").click(position={"x": 450, "y": 90})
        light.mouse.move(1100, 500)
        take(light, "tree-light")
        dark.select_option("#colour", "tenant")
        dark.fill("#query", "how tall is")
        take(dark, "tree-dark")
        phone.locator("#view").tap(position={"x": 200, "y": 100})
        take(phone, "tree-phone")
        last.join()
        browser.close()


if __name__ == "__main__":
    main()
