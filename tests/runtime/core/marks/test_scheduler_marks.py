"""The scheduler over windows and states, without a model: the same tokens whatever is cached, chunked, guessed, evicted
or given up; nothing is lost in any pool."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.radix import MarkRoom, NextUse, PrefixCache, Retained
from stemma.runtime.core.attention_metadata import make_attention_metadata
from stemma.runtime.core.batch import Batch, RowResult
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.sequence import FinishReason, Sequence
from stemma.runtime.errors import PinRefused, PoolExhausted
from stemma.runtime.model import MarkNeeds
from tests.runtime.core.making import Forced, drafter, sequence

WINDOW = 8


class MarkedModel:
    """Pools that hold the tokens themselves: each sampled position sees all of its text in the full pool, the last of
    it in that of windows, and all of it in a state. Every step is computed twice, as one that failed is."""

    def __init__(self, cache: PrefixCache, room: MarkRoom, next_token) -> None:
        self.size = cache.block_size
        self.full = [-1] * (cache.num_blocks * self.size)
        self.window = [-1] * (room.num_window_blocks * self.size)
        self.states: list[tuple[int, ...]] = [(-1,)] * room.num_slots
        self.needs = MarkNeeds(room.window, room.num_slots > 0)
        self.next_token = next_token

    def forward(self, batch: Batch) -> list[RowResult]:
        for pool, copies in ((self.full, batch.copies), (self.window, batch.window_copies)):
            for copy in copies:
                source, destination = copy.source * self.size, copy.destination * self.size
                pool[destination : destination + copy.num_tokens] = pool[source : source + copy.num_tokens]
        metadata = make_attention_metadata(batch, self.size, self.needs)
        results = self._computed(batch, metadata)
        assert results == self._computed(batch, metadata)
        return [RowResult(tokens) for tokens in results]

    def _computed(self, batch: Batch, metadata) -> list[list[int]]:
        tokens = [token for row in batch.rows for token in row.tokens]
        for pool, places in ((self.full, metadata), (self.window, metadata.window)):
            for slot, token in zip(() if places is None else places.slots, tokens, strict=False):
                if slot >= 0:
                    pool[slot] = token
        return [self._sampled(index, row, metadata, tokens) for index, row in enumerate(batch.rows)]

    def _sampled(self, index: int, row, metadata, tokens: list[int]) -> list[int]:
        first, end = int(metadata.query_starts[index]), row.start + len(row.tokens)
        text = self._read(self.full, metadata.block_tables[index], 0, end)
        assert text == [*row.sequence.tokens[: row.start], *row.tokens]
        states = {} if metadata.states is None else self._states(index, first - row.start, metadata.states, tokens)
        for position in range(end - row.num_samples + 1, end + 1):
            if metadata.window is not None:
                behind = max(0, position - WINDOW)
                seen = self._read(self.window, metadata.window.block_tables[index], behind, position)
                assert seen == text[behind:position]
            assert metadata.states is None or states[position] == tuple(text[:position])
        return [self.next_token(text[:position]) for position in range(end - row.num_samples + 1, end + 1)]

    def _states(self, index: int, offset: int, pieces, tokens: list[int]) -> dict[int, tuple[int, ...]]:
        """Those behind each piece of a row, by position."""
        found = {}
        for piece in range(pieces.rows[index], pieces.rows[index + 1]):
            start, end = int(pieces.starts[piece]), int(pieces.starts[piece + 1])
            before = () if pieces.sources[piece] < 0 else self.states[pieces.sources[piece]]
            state = self.states[pieces.targets[piece]] = (*before, *tokens[start:end])
            found[end - offset] = state
        return found

    def _read(self, pool: list[int], table, first: int, end: int) -> list[int]:
        return [pool[table[at // self.size] * self.size + at % self.size] for at in range(first, end)]


class Guesses:
    """A matcher that allows everything and guesses what comes next: so many tokens, of which so many are right."""

    is_finished = False

    def __init__(self, prompt: list[int], num_guessed: int, num_right: int, next_token) -> None:
        self.said, self.next_token = list(prompt), next_token
        self.right = [index < num_right for index in range(num_guessed)]

    def advance(self, token: int) -> bool:
        self.said.append(token)
        return True

    def forced(self) -> Forced:
        text = list(self.said)
        for is_right in self.right:
            text.append((self.next_token(text) + (not is_right)) % 50)
        return Forced([], text[len(self.said) :])


def make(room: MarkRoom, num_blocks=400, block_size=4, **limits) -> Scheduler:
    return Scheduler(PrefixCache(num_blocks, block_size, marks=room), Limits(**limits))


def run(scheduler: Scheduler, room: MarkRoom, fake, each_step=lambda step: None) -> list[Sequence]:
    model, ended = MarkedModel(scheduler.cache, room, fake.next_token), []
    for step in range(5000):
        each_step(step)
        batch = scheduler.schedule()
        if batch is not None:
            scheduler.commit(batch, model.forward(batch))
        scheduler.cache.check()
        ended += scheduler.take_ended()
        if scheduler.is_idle:
            return ended
    raise AssertionError("the scheduler never became idle")


def assert_nothing_is_held(cache: PrefixCache) -> None:
    stats = cache.stats()
    assert stats.marks is not None
    assert (stats.leased, stats.marks.leased_slots, stats.marks.leased_window_blocks, stats.num_leases) == (0, 0, 0, 0)


def test_drafts_take_no_slot_that_another_needs(fake):
    """Each of four goes from slot to slot; with drafts, the first would take five of the six that are left."""
    room = MarkRoom(None, num_slots=10)
    scheduler = make(room, max_running=4)
    guessed_at = []

    def guess(tokens: list[int]) -> list[int]:
        guessed_at.append(len(tokens))
        return [0, 1, 2, 3]

    scheduler.placing.drafter = drafter(guess)
    items = [sequence([n, 7], 20) for n in range(4)]
    for item in items:
        scheduler.add(item)
    run(scheduler, room, fake)
    assert scheduler.num_preempted == 0
    assert len(guessed_at) == 4 * 19, "there is room for a draft before each token but the last"
    for item in items:
        assert item.generated == fake.expected(item.tokens[:2], 20)


@pytest.mark.parametrize("num_window_blocks", [25, 30, 60, 100])
def test_as_many_run_as_their_windows_will_have_room_for(fake, num_window_blocks):
    """Sequences begin with short windows, and all of them grow: whoever started too early would be preempted."""
    room = MarkRoom(WINDOW, num_window_blocks)
    scheduler = make(room, block_size=1, num_blocks=4000, max_chunk=16)
    items = [sequence([n, *range(30)], 20) for n in range(12)]
    for item in items:
        scheduler.add(item)
    run(scheduler, room, fake)
    assert scheduler.num_preempted == 0
    assert_nothing_is_held(scheduler.cache)


@pytest.mark.parametrize("num_slots", [4, 5, 6, 12])
def test_the_fewest_slots_serve_many(fake, num_slots):
    room = MarkRoom(None, num_slots=num_slots)
    scheduler = make(room, max_running=8, max_chunk=4)
    items = [sequence([*range(20), n], 10) for n in range(9)]
    for item in items:
        scheduler.add(item)
    assert sorted(map(id, run(scheduler, room, fake))) == sorted(map(id, items))
    assert all(item.error is None and item.generated == fake.expected(item.tokens[:21], 10) for item in items)


def test_running_sequences_leave_slots_for_marks(fake):
    """Each that runs reads a slot and writes one; beside the four there are four slots for marks."""
    room = MarkRoom(None, num_slots=12)
    scheduler = make(room, max_running=6)
    for n in range(6):
        scheduler.add(sequence([n] * 10, 10))
    most = []
    run(scheduler, room, fake, lambda step: most.append(len(scheduler.running)))
    assert max(most) == 4


def test_nobody_waits_for_one_that_shares_nothing(fake):
    room = MarkRoom(None, num_slots=12)
    scheduler = make(room, max_chunk=4)
    first, second = sequence(list(range(20)), 2), sequence([*range(16), 40, 41], 2)
    scheduler.add(first)
    scheduler.schedule()
    assert scheduler.admission.blocker(second, 0, scheduler.running.prompts)
    first.goes_alone = True
    assert not scheduler.admission.blocker(second, 0, scheduler.running.prompts)


def test_what_is_short_is_named(fake):
    """Pins hold the states; blocks of full layers there are enough."""
    room = MarkRoom(None, num_slots=4)
    cache = PrefixCache(100, 4, pin_budget=100, marks=room)
    scheduler = Scheduler(cache, Limits())
    pins = [Retained(60.0) for _ in range(4)]
    items = [sequence([n] * 10, 1) for n in range(5)]
    for item, pin in zip(items, [*pins, None], strict=True):
        item.retained = pin
        scheduler.add(item)
        run(scheduler, room, fake)
    assert [type(item.error) for item in items] == [type(None)] * 4 + [PoolExhausted]
    assert "0 states" in str(items[4].error)
    assert "memory" in str(items[4].error)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_schedule_gives_the_models_tokens(fake, data):
    draw = data.draw
    size, chunk = draw(st.sampled_from([1, 2, 3, 4, 8])), draw(st.sampled_from([1, 2, 5, 16]))
    kind = draw(st.sampled_from(["window", "state", "both"]))
    least = -(-(WINDOW - 1) // size) + 2 - chunk // -size
    room = MarkRoom(
        None if kind == "state" else WINDOW,
        0 if kind == "state" else least + draw(st.sampled_from([0, 0, 1, 4, 20])),
        0 if kind == "window" else 4 + draw(st.sampled_from([0, 0, 1, 3, 12])),
    )
    num_blocks, limits = draw(st.integers(-(-60 // size), 100)), {"max_running": draw(st.integers(1, 5))}
    cache = PrefixCache(num_blocks, size, pin_budget=num_blocks // 2, marks=room)
    scheduler = Scheduler(cache, Limits(max_chunk=chunk, max_batch_tokens=draw(st.sampled_from([5, 30])), **limits))
    kept = [Retained(), Retained(), Retained(1e9)]
    items: list[tuple[Sequence, list[int]]] = []

    def act(step: int) -> None:
        what = draw(st.sampled_from(["add", "add", "add", "abort", "clear", "let go", "nothing"])) if step < 25 else ""
        if what == "add":
            base = draw(st.sampled_from([[], *(item.tokens for item, _ in items)]))
            prompt = [*base[: draw(st.integers(0, 30))], *draw(st.lists(st.integers(0, 2), min_size=1, max_size=8))]
            guesses = draw(st.sampled_from([None, (1, 0), (1, 1), (4, 2), (7, 7)]))
            item = sequence(
                prompt, draw(st.integers(0, 12)), priority=draw(st.integers(0, 1)),
                namespace=draw(st.sampled_from(["", "", "a"])), next_use=draw(st.sampled_from(list(NextUse))),
                marks_at=tuple(draw(st.lists(st.integers(1, len(prompt)), max_size=2))),
                matcher=None if guesses is None else Guesses(prompt, *guesses, fake.next_token),
            )  # fmt: skip
            item.retained = draw(st.sampled_from([None, None, *kept]))
            items.append((item, prompt))
            try:
                scheduler.add(item)
            except PinRefused:
                items.pop()
        elif what == "abort" and items:
            scheduler.abort(draw(st.sampled_from(items))[0])
        elif what == "clear":
            cache.clear()
        elif what == "let go":
            cache.let_go(kept.pop(0) if len(kept) > 1 else kept[0])

    step = 0
    model = MarkedModel(cache, room, fake.next_token)
    while step < 25 or not scheduler.is_idle:
        act(step)
        step += 1
        assert step < 5000, "the scheduler never became idle"
        batch = scheduler.schedule()
        if batch is not None:
            scheduler.commit(batch, model.forward(batch))
        cache.check()
    for item, prompt in items:
        assert item.error is None or isinstance(item.error, PoolExhausted | PinRefused)
        assert item.generated == fake.expected(prompt, len(item.generated))
        if item.finish_reason is FinishReason.LENGTH:
            usage = item.usage
            assert usage.prompt_tokens == usage.cached_tokens + usage.replayed_tokens + usage.prefilled_tokens
    for retained in kept:
        cache.let_go(retained)
    assert_nothing_is_held(cache)
    cache.clear()
    stats = cache.stats()
    assert stats.free == stats.total
    assert stats.marks.free_slots == stats.marks.slots
    assert stats.marks.free_window_blocks == stats.marks.window_blocks
