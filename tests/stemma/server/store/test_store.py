"""Objects are a tenant's own, bounded, and survive; items go when no path needs them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stemma.runtime.errors import InvalidRequest
from stemma.server.store.records import Gone, Limits, NewObject, NoRoom, Place
from stemma.server.store.store import Store

LIMITS = Limits(num_objects=100, num_bytes=1 << 20, file_bytes=10_000)


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(None, LIMITS)
    yield made
    made.close()


def new(name: str, *, kind: str = "response", **fields: Any) -> NewObject:
    return NewObject(kind, name, 1, {"id": name}, **fields)


def items(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "text": name * 3} for name in names]


def said(store: Store, tenant: str, name: str, kind: str = "response") -> list[str]:
    kept = store.get(tenant, kind, name)
    assert kept is not None
    return [item["id"] for item in store.path(kept.ends)]


def test_objects_are_a_tenants_own(store: Store) -> None:
    store.add("alice", new("r1", items=items("a")))
    assert store.get("bob", "response", "r1") is None
    assert store.item("bob", "a") is None
    assert not store.delete("bob", "response", "r1")
    assert store.change("bob", "response", "r1", lambda value: {}) is None
    assert store.page("bob", "response", Place()).objects == []
    store.add("bob", new("r1"))
    assert store.delete("bob", "response", "r1")
    assert store.get("alice", "response", "r1") is not None
    assert store.get("alice", "conversation", "r1") is None


def test_paths_share_their_beginnings_and_go_with_their_last_use(store: Store) -> None:
    first = store.add("t", new("r1", items=items("a")))
    first = store.finish("t", "response", "r1", {"id": "r1"}, items("b"))  # type: ignore[assignment]
    store.add("t", new("r2", after=first.ends, items=items("c")))
    store.add("t", new("r3", after=first.ends, items=items("d")))
    assert [said(store, "t", name) for name in ("r1", "r2", "r3")] == [["a", "b"], ["a", "b", "c"], ["a", "b", "d"]]
    assert [item["id"] for item in store.path(first.ends, first.begins)] == ["b"]
    store.delete("t", "response", "r1")
    assert said(store, "t", "r2") == ["a", "b", "c"]
    store.delete("t", "response", "r2")
    assert store.item("t", "c") is None
    assert store.item("t", "b") is not None
    store.delete("t", "response", "r3")
    assert store.item("t", "a") is None
    assert store.room("t", "response").num_bytes == 0
    with pytest.raises(Gone):
        store.add("t", new("r4", after=first.ends))


def test_a_conversation_shares_the_path_of_its_answers(store: Store) -> None:
    store.add("t", new("c", kind="conversation", items=items("a")))
    begun = store.get("t", "conversation", "c")
    assert begun is not None
    store.add("t", new("r", after=begun.ends, items=items("b")))
    done = store.finish("t", "response", "r", {"id": "r"}, items("x"))
    assert done is not None
    before = store.room("t", "response").num_bytes
    store.append("t", "conversation", "c", items("b", "x"), after=begun.ends, last=done.ends)
    assert store.room("t", "response").num_bytes == before
    assert said(store, "t", "c", "conversation") == ["a", "b", "x"]
    store.append("t", "conversation", "c", items("y"), after=begun.ends, last=done.ends)
    assert said(store, "t", "c", "conversation") == ["a", "b", "x", "y"]
    assert store.cut_out("t", "conversation", "c", "b") is not None
    assert store.cut_out("t", "conversation", "c", "b") is None
    assert said(store, "t", "c", "conversation") == ["a", "x", "y"]
    assert said(store, "t", "r") == ["a", "b", "x"]
    store.delete("t", "response", "r")
    store.delete("t", "conversation", "c")
    assert store.room("t", "response").num_bytes == 0


def test_what_was_written_longest_ago_goes_first() -> None:
    store = Store(None, LIMITS._replace(num_objects=3))
    store.add("t", new("open", is_open=True))
    for name in ("r1", "r2"):
        store.add("t", new(name))
    store.change("t", "response", "r1", lambda value: value)
    store.add("t", new("r3"))
    store.add("other", new("r9"))
    assert [kept.id for kept in store.page("t", "response", Place()).objects] == ["r3", "r1", "open"]
    store.close()


def test_an_answer_that_is_too_large_goes_itself() -> None:
    store = Store(None, LIMITS._replace(num_bytes=2000))
    store.add("t", new("r1"))
    store.add("t", new("r2", items=[{"id": "a", "text": "x" * 3000}]))
    assert store.get("t", "response", "r2") is None
    assert store.room("t", "response").num_bytes == 0
    store.close()


def test_files_have_no_more_room_than_they_may(store: Store) -> None:
    store.add("t", new("f1", kind="file", contents=[b"x" * 6000]))
    with pytest.raises(NoRoom):
        store.add("t", new("f2", kind="file", contents=[b"x" * 6000]))
    store.add("u", new("f2", kind="file", contents=[b"x" * 6000]))
    assert store.delete("t", "file", "f1")
    kept = store.add("t", new("f2", kind="file", contents=[b"x" * 3000, b"y"]))
    assert b"".join(store.contents(kept)) == b"x" * 3000 + b"y"


def test_what_has_expired_is_not_there(store: Store) -> None:
    now = int(time.time())
    store.add("t", new("r1", expires=now - 1, items=items("a")))
    store.add("t", new("r2", expires=now + 1000))
    assert store.get("t", "response", "r1") is None
    assert [kept.id for kept in store.page("t", "response", Place()).objects] == ["r2"]
    store._purged_at -= 1000
    store.add("t", new("r3"))
    assert store.room("t", "response").num_objects == 2
    assert store.item("t", "a") is None


def test_what_expires_while_it_is_open_goes_too(store: Store) -> None:
    store.add("t", new("r1", expires=int(time.time()) - 1, is_open=True, items=items("a")))
    store._purged_at -= 1000
    store.add("t", new("r2"))
    assert store.left_open("response") == []
    assert store.room("t", "response").num_objects == 1


def test_a_full_disk_is_an_error_and_no_more(store: Store) -> None:
    store.add("t", new("r1", items=items("a")))
    room = store.room("t", "response")
    with store._database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.add("t", new("r2", items=[{"id": "b", "text": "x" * 100_000}]))
    assert store.room("t", "response") == room
    with store._database.reading() as connection:
        connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    store.add("t", new("r2", items=items("b")))
    assert said(store, "t", "r2") == ["b"]


@pytest.mark.parametrize("is_descending", [False, True])
def test_lists_come_in_pages(store: Store, is_descending: bool) -> None:
    names = [f"r{number}" for number in range(7)]
    for name in names:
        store.add("t", new(name))
    seen: list[str] = []
    while True:
        page = store.page("t", "response", Place(seen[-1] if seen else None, 3, is_descending))
        seen += [kept.id for kept in page.objects]
        if not page.has_more:
            break
    assert seen == (names[::-1] if is_descending else names)
    assert store.page("t", "response", Place("nobody")).objects == []
    assert [kept.id for kept in store.page("t", "response", Place(), lambda v: v["id"] == "r3").objects] == ["r3"]


def test_a_place_is_written_once(store: Store) -> None:
    kept = store.add("t", new("b", kind="batch"))
    assert store.put_content("t", "batch", "b", 4, b"one", lambda value: {**value, "n": 1})
    assert not store.put_content("t", "batch", "b", 4, b"two", lambda value: {**value, "n": 2})
    assert store.places(kept) == [4]
    assert list(store.contents(kept)) == [b"one"]
    assert store.get("t", "batch", "b").value == {"id": "b", "n": 1}  # type: ignore[union-attr]
    before = store.room("t", "batch").num_bytes
    store.change("t", "batch", "b", lambda value: value, without_contents=True)
    assert store.places(kept) == []
    assert store.room("t", "batch").num_bytes < before
    assert not store.is_full("t")


def test_a_file_survives_and_is_nobody_elses_meanwhile(tmp_path: Path) -> None:
    store = Store(tmp_path, LIMITS)
    store.add("t", new("r1", items=items("a"), is_open=True))
    with pytest.raises(InvalidRequest, match="another server"):
        Store(tmp_path, LIMITS)
    room = store.room("t", "response")
    store.close()
    again = Store(tmp_path, LIMITS)
    assert said(again, "t", "r1") == ["a"]
    assert again.room("t", "response") == room
    assert [(tenant, kept.id) for tenant, kept in again.left_open("response")] == [("t", "r1")]
    again.close()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(InvalidRequest, match="move it away"):
        Store(tmp_path, LIMITS)
    (tmp_path / "state.sqlite").unlink()
    with sqlite3.connect(tmp_path / "state.sqlite") as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(InvalidRequest, match="newer version"):
        Store(tmp_path, LIMITS)


class Conversations(RuleBasedStateMachine):
    """Whatever is done in whatever order, each path says what was put into it, and nothing is left over."""

    NAMES = st.sampled_from(["r1", "r2", "r3", "r4"])
    TENANTS = st.sampled_from(["t", "u"])

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(None, LIMITS)
        self.known: dict[tuple[str, str], list[str]] = {}
        self.num_items = 0

    def some(self, num: int) -> list[dict[str, Any]]:
        self.num_items += num
        return items(*(f"i{self.num_items - at}" for at in range(num)))

    @rule(tenant=TENANTS, name=NAMES, before=NAMES, num=st.integers(0, 3))
    def begin(self, tenant: str, name: str, before: str, num: int) -> None:
        if (tenant, name) in self.known:
            return
        found = self.store.get(tenant, "response", before)
        made = self.some(num)
        self.store.add(tenant, new(name, after=found.ends if found else None, items=made))
        self.known[tenant, name] = self.known.get((tenant, before), []) + [item["id"] for item in made]

    @rule(tenant=TENANTS, name=NAMES, num=st.integers(0, 3))
    def go_on(self, tenant: str, name: str, num: int) -> None:
        made = self.some(num)
        found = self.store.append(tenant, "response", name, made, after=None, last=None)
        assert (found is not None) == ((tenant, name) in self.known)
        if found is not None:
            self.known[tenant, name] += [item["id"] for item in made]

    @rule(tenant=TENANTS, name=NAMES, at=st.integers(0, 5))
    def cut_out(self, tenant: str, name: str, at: int) -> None:
        there = self.known.get((tenant, name), [])
        if at < len(there):
            assert self.store.cut_out(tenant, "response", name, there[at]) is not None
            self.known[tenant, name] = there[:at] + there[at + 1 :]

    @rule(tenant=TENANTS, name=NAMES)
    def delete(self, tenant: str, name: str) -> None:
        assert self.store.delete(tenant, "response", name) == ((tenant, name) in self.known)
        self.known.pop((tenant, name), None)

    @invariant()
    def each_says_what_was_put_into_it(self) -> None:
        for (tenant, name), there in self.known.items():
            assert said(self.store, tenant, name) == there
        rooms = {tenant: self.store.room(tenant, "response") for tenant in ("t", "u")}
        told = {tenant: (room.num_objects, room.num_bytes) for tenant, room in rooms.items()}
        with self.store._database.reading() as connection:
            self.store._count(connection)
            uses = connection.execute(
                "SELECT sum(uses - (SELECT count(*) FROM items c WHERE c.parent = items.number)"
                " - (SELECT count(*) FROM objects WHERE ends = items.number)), min(uses) FROM items"
            ).fetchone()
        again = {tenant: self.store.room(tenant, "response") for tenant in ("t", "u")}
        assert told == {tenant: (room.num_objects, room.num_bytes) for tenant, room in again.items()}
        assert uses[0] in (None, 0)
        assert uses[1] in (None, 1, 2, 3, 4, 5)

    def teardown(self) -> None:
        self.store.close()


TestConversations = Conversations.TestCase
TestConversations.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
