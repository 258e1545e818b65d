"""The page at /tree in headless Chromium; left out where Playwright or Chromium is not installed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}


@contextmanager
def watched(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """A page; at the end, nothing has gone wrong in it."""
    context = browser.new_context(bypass_csp=True, **(options or DESKTOP))  # Playwright itself needs eval
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(f"{url}/tree")
    yield page
    assert [error for error in errors if "401" not in error] == []
    context.close()


@contextmanager
def small() -> Iterator[str]:
    """A trunk and two branches."""
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=4096) as engine, live_server(engine) as live:
        for end in ("left", "right"):
            complete(live.url, f"a trunk, then {end}")
        yield live.url


def complete(url: str, prompt: str, **body: Any) -> None:
    answer = httpx.post(f"{url}/v1/completions", json={"prompt": prompt, "max_tokens": 1} | body, timeout=60)
    assert answer.status_code == 200


def nodes_are(page: Any, rule: str) -> None:
    page.wait_for_function(f"document.body.dataset.nodes {rule}", timeout=60_000)


def press(page: Any, *keys: str) -> None:
    page.locator("#view").focus()
    for key in keys:
        page.keyboard.press(key)


SELECTED_IS_SEEN = """() => {
    stemma.paint();
    const box = stemma.camera.toScreen(stemma.chosen);
    return box.x < stemma.camera.width && box.x + box.w > 0 && box.y < stemma.camera.height && box.y + box.h > 26;
}"""
OVERLAPS = """() => {
    stemma.paint();
    const labels = stemma.painted.labels, found = [];
    for (const [i, a] of labels.entries()) for (const b of labels.slice(i + 1))
        if (a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h) found.push([a, b]);
    for (const a of labels) {
        const box = stemma.camera.toScreen(stemma.layout.nodes.get(a.id));
        if (a.x < box.x || a.x + a.w > box.x + box.w || a.y < box.y || a.y + a.h > box.y + box.h) found.push([a, box]);
    }
    return found;
}"""
COLOURS = """() => {
    const { width, height } = document.getElementById("view"), found = new Map();
    const { data } = document.getElementById("view").getContext("2d").getImageData(0, 0, width, height);
    for (let i = 3; i < data.length; i += 40) if (data[i]) found.set(data.slice(i - 3, i).join(), true);
    return found.size;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tree_is_shown_and_walked_with_the_keyboard(browser: Any, scheme: str) -> None:
    with small() as url, watched(browser, url, color_scheme=scheme, **DESKTOP) as page:
        nodes_are(page, "== 3")
        press(page, "ArrowDown")
        assert "a trunk, then" in page.inner_text("#said")
        press(page, "ArrowRight", "ArrowDown")
        assert {"left", "right"} & set(page.inner_text("#said").split())
        assert page.inner_text("#card")
        for key in [*"cc+-0pp,.z16", "Home", "PageDown", "Escape"]:
            press(page, key)
        httpx.post(f"{url}/flush_cache", json={})
        nodes_are(page, "== 0")
        assert "nodes" in page.inner_text("#counters")
        assert page.is_visible("#empty")


def test_the_page_asks_for_a_key(browser: Any, engine: Engine) -> None:
    config = ServerConfig(api_keys=(ApiKey("a", "secret"),), shutdown_seconds=1)
    with live_server(engine, config) as live, watched(browser, live.url) as page:
        page.wait_for_selector("#login", state="visible")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#login", state="visible")
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        page.wait_for_function("document.getElementById('state').textContent == 'live'")
        assert page.is_hidden("#login")


def test_the_page_runs_under_its_own_policy(browser: Any, engine: Engine) -> None:
    with live_server(engine) as live:
        page = browser.new_page()
        refused: list[str] = []
        page.on("console", lambda said: refused.append(said.text))
        page.on("request", lambda asked: refused.append(asked.url) if not asked.url.startswith(live.url) else None)
        page.goto(f"{live.url}/tree")
        page.get_by_text("live", exact=True).first.wait_for()
        assert refused == []
        page.close()


def test_zooming_keeps_what_is_selected(browser: Any) -> None:
    with small() as url, watched(browser, url) as page:
        nodes_are(page, "== 3")
        press(page, "ArrowDown", "ArrowRight", "ArrowDown", *"+" * 8)
        assert page.evaluate("stemma.camera.zoom") > 2
        assert page.evaluate(SELECTED_IS_SEEN)
        press(page, *"-" * 8)
        assert page.evaluate(SELECTED_IS_SEEN)


def test_folding_searching_and_what_is_found_is_unfolded(browser: Any) -> None:
    with small() as url, watched(browser, url) as page:
        nodes_are(page, "== 3")
        press(page, "ArrowDown", "Enter")
        assert "folded" in page.inner_text("#said")
        assert page.evaluate("stemma.layout.visible.length") == 1
        press(page, "/")
        page.keyboard.type("then RIGHT")
        assert page.inner_text("#found") == "1 found"
        page.keyboard.press("Enter")
        assert page.inner_text("#found") == "1 of 1"
        assert "right" in page.inner_text("#said")
        assert page.evaluate("stemma.layout.visible.length") == 3
        page.keyboard.press("Escape")
        assert page.inner_text("#found") == ""
        page.select_option("#levels", "1")
        assert page.evaluate("stemma.layout.visible.length") == 1


def test_the_last_minutes_can_be_looked_at_again(browser: Any) -> None:
    with small() as url, watched(browser, url) as page:
        nodes_are(page, "== 3")
        complete(url, "something else")
        nodes_are(page, "== 4")
        httpx.post(f"{url}/flush_cache", json={})
        nodes_are(page, "== 0")
        assert page.evaluate("stemma.layout.all.every((node) => node.isGhost) && stemma.layout.all.length") == 4
        press(page, ",")
        nodes_are(page, "== 4")
        assert page.inner_text("#state") == "paused"
        page.locator("#when").focus()
        page.keyboard.press("Home")
        nodes_are(page, "== 3")
        assert "ago" in page.inner_text("#ago")
        complete(url, "while nobody looks")
        page.wait_for_function("stemma.history.live.size > 0")
        assert page.evaluate("stemma.history.shown.size") == 3
        page.click("#play")
        page.wait_for_function("stemma.history.held == false", timeout=20_000)
        nodes_are(page, "> 0")
        assert page.inner_text("#state") == "live"
        kinds = page.evaluate("stemma.history.parts(1)[0]")
        assert kinds["evicted"] == 4
        assert kinds["made"] >= 2


def test_a_request_that_streams_is_a_path(browser: Any) -> None:
    with small() as url, watched(browser, url) as page:
        nodes_are(page, "== 3")
        long = {"max_tokens": 1500, "ignore_eos": True}
        told = threading.Thread(target=complete, args=(url, "a trunk, then left or"), kwargs=long)
        told.start()
        page.wait_for_function("stemma.layout.runs.length == 1", timeout=60_000)
        press(page, "r")
        assert "running" in page.inner_text("#said")
        press(page, "ArrowLeft", "ArrowLeft")
        assert page.inner_text("#said").rstrip().endswith("a trunk, then")
        httpx.post(f"{url}/v1/completions", json={"prompt": "x", "max_tokens": 1}, timeout=60)
        told.join()
        page.wait_for_function("stemma.layout.runs.length == 0", timeout=60_000)
        assert page.evaluate("stemma.chosen !== null")


def test_on_a_phone_it_is_tapped_dragged_and_pinched(browser: Any, tmp_path: Path) -> None:
    with small() as url, watched(browser, url, color_scheme="dark", **PHONE) as page:
        nodes_are(page, "== 3")
        page.locator("#view").tap(position={"x": 80, "y": 60})
        assert "a trunk" in page.inner_text("#card")
        assert page.evaluate(SELECTED_IS_SEEN)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        touch = page.context.new_cdp_session(page)

        def fingers(kind: str, *places: tuple[int, int]) -> None:
            points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        before = page.evaluate("stemma.camera.zoom")
        fingers("touchStart", (150, 300), (200, 300))
        fingers("touchMove", (100, 300), (250, 300))
        fingers("touchMove", (80, 300), (270, 300))
        fingers("touchEnd")
        page.wait_for_function(f"stemma.camera.zoom > {before} * 1.5")
        assert page.evaluate("stemma.chosen.record.text").startswith("a trunk")
        page.screenshot(path=tmp_path / "phone.png")
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate(COLOURS) > 8


def fill(cache: PrefixCache) -> None:
    """Ten thousand leaves of many lengths."""
    for number in range(10_000):
        length = (2, 6, 13, 30)[number * 7 % 4]
        tokens = [33 + number % 20, 60 + number // 20 % 25, 90 + number // 500, *[65 + number % 26] * length]
        with cache.acquire(tokens) as lease:
            lease.reserve(len(tokens) - lease.hit_len)
            lease.extend(tokens[lease.hit_len :])
            lease.commit()


@pytest.fixture(scope="module")
def large() -> Iterator[str]:
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=400_000) as engine, live_server(engine) as live:
        engine.with_cache(fill)
        yield live.url


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_ten_thousand_nodes_are_readable_at_any_zoom(
    browser: Any, large: str, options: dict[str, Any], tmp_path: Path
) -> None:
    with watched(browser, large, **options) as page:
        nodes_are(page, "> 10000")
        press(page, "ArrowDown", "ArrowRight", "ArrowRight", *"+" * 2)
        assert "tokens in" in page.inner_text("#said")
        for number, keys in enumerate(["", "0", "+++", "+++++", "++++++++", "z", "1", "6"]):
            press(page, *keys)
            assert page.evaluate(SELECTED_IS_SEEN) or keys == "0"
            assert page.evaluate(OVERLAPS) == []
            assert page.evaluate("stemma.painted.labels.length") >= 1
            assert page.evaluate(COLOURS) > 8
            page.screenshot(path=tmp_path / f"{number}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]
        assert page.is_visible("#minimap")
        page.screenshot(path=tmp_path / "large.png")


def test_the_wheel_zooms_about_the_pointer_and_a_drag_moves(browser: Any, large: str) -> None:
    with watched(browser, large) as page:
        nodes_are(page, "> 10000")
        top = page.evaluate("document.getElementById('view').getBoundingClientRect().top")
        under = "(() => { const { x, y } = stemma.camera.toLayout(300, 330); return [x, y]; })()"
        press(page, "PageDown", "PageDown")
        before = page.evaluate(under)
        page.mouse.move(300, top + 330)
        page.mouse.wheel(0, -300)
        page.wait_for_function("stemma.camera.zoom > 1.5")
        assert page.evaluate(under) == pytest.approx(before, abs=1)
        page.mouse.down()
        page.mouse.move(300, top + 130, steps=3)
        page.mouse.up()
        assert page.evaluate(under)[1] > before[1] + 50
        assert page.evaluate("stemma.chosen") is None


def test_what_is_painted_is_what_can_be_seen(browser: Any, large: str) -> None:
    """The work of a picture grows with the screen, not with the tree."""
    with watched(browser, large) as page:
        nodes_are(page, "> 10000")
        rows = page.evaluate("stemma.camera.height")
        work = "(() => { stemma.paint(); return stemma.painted.visited; })()"
        assert page.evaluate(work) < 150
        press(page, "0")
        assert page.evaluate(work) < 4 * rows
        for _ in range(10):
            press(page, "+")
            assert page.evaluate(work) < 4 * rows
        page.mouse.move(page.evaluate("innerWidth") - 60, 300)
        page.mouse.down()
        page.mouse.up()
        assert page.evaluate("stemma.camera.y") > 1000
        page.fill("#query", "zz")
        assert page.evaluate("document.getElementById('found').textContent").endswith("found")
        assert page.evaluate(work) < 4 * rows
        complete(large, "x", max_tokens=2)
