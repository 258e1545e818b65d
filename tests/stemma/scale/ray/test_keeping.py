"""What is kept is found by its id, whichever replica made it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from stemma.runtime.core.config import EngineConfig
from stemma.runtime.engine import Engine
from stemma.scale.ray.keeping import keeper_in_body, keeper_in_path, keeper_of, keeps
from stemma.scale.ray.reading import Call, make_reader
from stemma.scale.ray.table import Seen, Table
from stemma.scale.spec import Spec
from stemma.server import ServerConfig, app

HEX = "0123456789abcdef" * 2
RANKS = range(2)


@pytest.mark.parametrize(
    ("name", "rank"),
    [(f"resp_{HEX}r3", 3), (f"conv_{HEX}r12", 12), (f"resp_{HEX}", None), ("resp_r3", None), (f"resp_{HEX}r", None),
     (f"resp_{HEX}r3 ", None), (f"resp_{HEX}r99999999", None), (3, None), (None, None)],
)  # fmt: skip
def test_an_id_says_who_keeps_what_it_names(name, rank):
    assert keeper_of(name) == rank
    assert keeper_in_path(f"/v1/responses/{name}/input_items") == rank
    for body in (
        {"previous_response_id": name}, {"conversation": name}, {"conversation": {"id": name}},
        {"input": [{"role": "user"}, {"type": "item_reference", "id": name}]},
    ):  # fmt: skip
        assert keeper_in_body(json.dumps(body).encode()) == rank


def test_what_is_no_request_names_nobody():
    for body in (b"", b"[]", b"{", b'{"input": 3}', f'{{"input": "resp_{HEX}r3"}}'.encode()):
        assert keeper_in_body(body) is None


class Nobody:
    def close(self) -> None: ...


async def test_responses_are_made_anywhere_and_gone_on_from_where_they_are_kept():
    reader, table = make_reader(Spec(engine=EngineConfig(kv_tokens=4096))), Table(16, lambda *told: Nobody(), seed=1)
    table.update([Seen(f"replica {rank}", rank, None, {}) for rank in RANKS])
    with Engine(kv_tokens=4096) as engine:
        apps = {f"replica {rank}": app(engine, ServerConfig()) for rank in RANKS}
        for rank, each in enumerate(apps.values()):
            each.state.service.kept_by = keeps(rank)

        async def ask(method: str, path: str, body: Any = None, to: str | None = None) -> tuple[str, httpx.Response]:
            asked = reader.read(Call(method, path, Headers({}), json.dumps(body or {}).encode()))
            chosen = to or table.choose(asked, list(apps))
            assert chosen is not None
            asked.begun()
            async with httpx.AsyncClient(transport=httpx.ASGITransport(apps[chosen]), base_url="http://one") as client:
                return chosen, await client.request(method, path, json=body)

        async def made(path: str, body: Any, to: str | None = None) -> tuple[str, Any]:
            chosen, answer = await ask("POST", path, body, to)
            assert answer.status_code == 200, answer.text
            return chosen, answer.json()

        for name in apps:
            asked = {"input": "Hello", "max_output_tokens": 4}
            _, first = await made("/v1/responses", asked, to=name)
            again = {**asked, "previous_response_id": first["id"]}
            assert (await made("/v1/responses", again))[0] == name
            assert (await made("/v1/responses/input_tokens", again))[0] == name
            chosen, found = await ask("GET", f"/v1/responses/{first['id']}")
            assert (chosen, found.json()["id"]) == (name, first["id"])
            refers = {**asked, "input": [{"type": "item_reference", "id": first["output"][0]["id"]}]}
            assert (await made("/v1/responses", refers))[0] == name
            _, conversation = await made("/v1/conversations", {}, to=name)
            assert (await made("/v1/responses", {**asked, "conversation": conversation["id"]}))[0] == name
            assert (await ask("GET", f"/v1/conversations/{conversation['id']}/items"))[0] == name
        chosen, gone = await ask("GET", f"/v1/responses/resp_{HEX}r7")
        assert (chosen in apps, gone.status_code) == (True, 404)
        for each in apps.values():
            each.state.service.close()


def test_new_ones_go_where_they_cost_least():
    reader = make_reader(Spec(engine=EngineConfig(kv_tokens=4096)))
    for path, body in (("/v1/responses", {"input": "Hello"}), ("/v1/conversations", {})):
        asked = reader.read(Call("POST", path, Headers({}), json.dumps(body).encode()))
        assert (asked.home, asked.kept_by) == (None, None)
