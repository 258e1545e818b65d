"""`stemma cache` against a live server."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request

import pytest
import uvicorn
from typer.testing import CliRunner

from stemma import cli
from stemma.runtime.engine import Engine
from stemma.server import ServerConfig, app
from stemma.terminal.remote import ServerUnreachable


@pytest.fixture(scope="module")
def url(tiny_loaded, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Engine.of(tiny_loaded, kv_tokens=8192) as llm:
        server = uvicorn.Server(
            uvicorn.Config(
                app(llm, ServerConfig(cache_folder=tmp_path_factory.mktemp("saved"))), port=port, log_level="warning"
            )
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["cache", *arguments])
    assert result.exit_code == 0, result.exception
    return result.stdout


def wait_for(text: str, url: str) -> None:
    for _ in range(50):  # the server's picture may be half a second old
        nodes = json.loads(invoke("tree", "--url", url, "--json"))["nodes"]
        if any(node["text"] == text for node in nodes):
            return
        time.sleep(0.1)
    raise AssertionError(f"{text!r} never came to be in the tree")


def test_a_warmed_prompt_is_in_the_tree_and_explained(url):
    assert json.loads(invoke("warm", "a shared beginning, then this", "--url", url))["usage"]["prompt_tokens"] == 29
    wait_for("a shared beginning, then this", url)
    assert "a shared beginning, then this" in invoke("tree", "--url", url)
    said = json.loads(invoke("explain", "a shared beginning, then that", "--url", url, "--json"))
    assert (said["hit_len"], said["num_tokens"], said["reason"]) == (27, 29, "diverged")
    assert "27 of 29 tokens are cached" in invoke("explain", "a shared beginning, then that", "--url", url)


def test_a_pin_holds_its_prompt(url):
    pin = json.loads(invoke("pin", "kept for a while", "--ttl", "60", "--url", url))
    assert pin["num_tokens"] == 16
    assert 0 < pin["expires_in"] <= 60
    wait_for("kept for a while", url)


def test_a_cache_is_saved_and_loaded(url):
    invoke("warm", "a text to be kept", "--url", url)
    saved = json.loads(invoke("save", "mine", "--url", url))
    loaded = json.loads(invoke("load", "mine", "--url", url))
    assert saved["num_tokens"] == loaded["num_tokens"] > 0
    assert loaded["skipped_tokens"] == 0


def test_no_server_says_how_to_start_one():
    result = CliRunner().invoke(cli.app, ["cache", "tree", "--url", "http://127.0.0.1:9"])
    assert isinstance(result.exception, ServerUnreachable)
    assert "stemma serve" in str(result.exception)


def test_bench_loads_a_server_and_tells_its_hits(url, tmp_path):
    sizes = ("--prefix-tokens", "64", "--prompt-tokens", "16", "--output-tokens", "3", "--families", "1")
    asked = ("bench", "--url", url, "--workload", "prefix", "--requests", "4", "--warmup", "0", *sizes)
    (run,) = json.loads(CliRunner().invoke(cli.app, [*asked, "--json"]).stdout)["runs"]
    assert run["failed"] == {}
    assert run["num_requests"] == 4
    assert run["mean_completion_tokens"] == 3
    assert 0 < run["hit_rate"] < 1
    text = (
        CliRunner().invoke(cli.app, [*asked, "--seed", "5", "--ttft-ms", "60000", "--out", str(tmp_path / "a")]).stdout
    )
    assert "100%" in text
    assert json.loads((tmp_path / "a").read_text("utf-8"))["runs"][0]["good_share"] == 1


def test_doctor_answers_its_questions_of_a_live_server_and_of_its_metrics_in_a_file(url, tmp_path):
    invoke("warm", "something that is computed, " * 9, "--url", url)
    asked = ["doctor", "--url", url, "--machine-bandwidth", "20", "--machine-compute", "500"]
    result = CliRunner().invoke(cli.app, [*asked, "--json"])
    assert result.exit_code == 0, result.exception
    questions = {answer["question"]: answer for answer in json.loads(result.stdout)}
    assert set(questions) == {"Prefill or decode?", "Bandwidth or compute?", "What is the KV doing?", "Who waits?"}
    pool = {figure["name"]: figure["value"] for figure in questions["What is the KV doing?"]["figures"]}
    assert pool["size of the pool"] == 8192
    assert pool["free"] + pool["leased"] + pool["cached"] == pytest.approx(1)
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        (tmp_path / "now").write_bytes(answer.read())
    text = CliRunner().invoke(cli.app, ["doctor", "--metrics", str(tmp_path / "now")]).stdout
    assert "What is the KV doing?" in text
    assert "--machine-bandwidth" in text
