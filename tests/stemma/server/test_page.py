"""The page at /tree in headless Chromium; left out where Playwright or Chromium is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.radix import PrefixCache
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ApiKey, ServerConfig
from tests.stemma.server.live import live_server

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        made = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def watched(browser: Any, url: str, scheme: str = "light") -> tuple[Any, list[str]]:
    """A page, and the errors that it runs into."""
    page = browser.new_page(color_scheme=scheme, bypass_csp=True)  # Playwright itself needs eval
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{url}/tree")
    return page, errors


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tree_is_shown_and_walked_with_the_keyboard(browser: Any, scheme: str) -> None:
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=4096) as engine, live_server(engine) as live:
        for end in ("left", "right"):
            httpx.post(f"{live.url}/v1/completions", json={"prompt": f"a trunk, then {end}", "max_tokens": 1})
        page, errors = watched(browser, live.url, scheme)
        page.wait_for_function("document.body.dataset.nodes == 3")
        page.locator("#view").focus()
        page.keyboard.press("ArrowDown")
        assert "a trunk, then" in page.inner_text("#said")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert {"left", "right"} & set(page.inner_text("#said").split())
        assert page.inner_text("#card")
        for key in ("c", "c", "+", "-", "0", "p", "p", "Escape"):
            page.keyboard.press(key)
        httpx.post(f"{live.url}/flush_cache", json={})
        page.wait_for_function("document.body.dataset.nodes == 0")
        assert "nodes" in page.inner_text("#counters")
        assert errors == []
        page.close()


def test_the_page_asks_for_a_key(browser: Any, engine: Engine) -> None:
    with live_server(engine, ServerConfig(api_keys=(ApiKey("a", "secret"),), shutdown_seconds=1)) as live:
        page, errors = watched(browser, live.url)
        page.wait_for_selector("#login", state="visible")
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        page.wait_for_function("document.getElementById('state').textContent == 'live'")
        assert errors == []
        page.close()


def test_ten_thousand_nodes_are_drawn_and_answer_to_the_keyboard(browser: Any) -> None:
    def fill(cache: PrefixCache) -> None:
        for number in range(10_000):
            tokens = [number % 20, number // 20 % 25, 30 + number // 500, *[65] * 13]
            with cache.acquire(tokens) as lease:
                lease.reserve(len(tokens) - lease.hit_len)
                lease.extend(tokens[lease.hit_len :])
                lease.commit()

    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=200_000) as engine, live_server(engine) as live:
        engine.with_cache(fill)
        page, errors = watched(browser, live.url)
        page.wait_for_function("document.body.dataset.nodes > 10000", timeout=60_000)
        page.locator("#view").focus()
        for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        assert "tokens in" in page.inner_text("#said")
        drawn = page.evaluate("(() => { needed = true; const t = performance.now(); draw(t); return t; })()")
        assert drawn > 0
        assert errors == []
        answer = httpx.post(f"{live.url}/v1/completions", json={"prompt": "x", "max_tokens": 2}, timeout=60)
        assert answer.status_code == 200
        page.close()
