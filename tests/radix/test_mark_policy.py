"""Where marks are made, what is learned of them and which go first: placement.py, mark_value.py, mark_queue.py."""

import random
from array import array

import pytest

from stemma.radix import Lease, MarkRoom, PrefixCache
from stemma.radix.mark_queue import MarkQueue
from stemma.radix.mark_value import MarkValue
from stemma.radix.node import Mark, Node
from stemma.radix.place import Origin, Place
from stemma.radix.placement import FEW_PROMPTS, RISK, SURE, Tails, is_worth


def states(num_slots: int, num_blocks: int = 4096) -> PrefixCache:
    return PrefixCache(num_blocks, 16, marks=MarkRoom(None, 0, num_slots))


def text(seed: int, length: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(30_000) for _ in range(length)]


def compute(cache: PrefixCache, prompt: list[int], output: list[int]) -> Lease:
    """One request from its prompt to its end; returns its lease, released."""
    lease = cache.acquire(prompt, max_hit=len(prompt) - 1)
    for part in (prompt[lease.hit_len :], output):
        lease.reserve(len(part))
        lease.advance(len(part))
        lease.extend(part)
    lease.mark()
    lease.commit()
    lease.release()
    return lease


def mark_positions(cache: PrefixCache) -> list[int]:
    return sorted(position for node in cache.walk() for position in node.marks or ())


# Value -------------------------------------------------------------------------------------------


def waited(value: MarkValue, place: Place, requests: int) -> Place:
    value.now = place.used_at + requests
    return place


def test_a_kind_that_always_comes_back_is_worth_more_than_one_that_never_does() -> None:
    value = MarkValue()
    for _ in range(300):
        end, junction = Place(100, Origin.END, value.now), Place(100, Origin.JUNCTION, value.now)
        value.enter(end)
        value.enter(junction)
        value.now += 10
        value.came_back(junction)
    end, junction = Place(100, Origin.END, value.now), Place(100, Origin.JUNCTION, value.now)
    value.classify(end)
    value.classify(junction)
    assert value.index(junction, 100) > 5 * value.index(end, 100)
    assert value.chance(end) < 0.1 < 0.8 < value.chance(junction)


def test_ends_that_come_back_at_once_or_not_at_all_lose_their_worth_as_they_wait() -> None:
    value = MarkValue()
    for number in range(600):
        place = Place(100, Origin.END, value.now)
        value.enter(place)
        value.now += 3
        if number % 2:
            value.came_back(place)
    place = Place(100, Origin.END, value.now)
    value.enter(place)
    fresh = value.index(place, 100)
    assert value.index(waited(value, place, 4000), 100) < fresh / 20
    assert value.chance(place) < 0.1


def test_ends_as_deep_as_none_was_ever_gone_on_from_are_told_from_the_others() -> None:
    value = MarkValue()
    for _ in range(200):
        for turn in range(4):
            place = Place(100, Origin.END, value.now, turn)
            value.enter(place)
            value.now += 1
            if turn < 3:
                value.came_back(place)
    chances = []
    for turn in range(4):
        place = Place(100, Origin.END, value.now, turn)
        value.classify(place)
        chances.append(value.chance(place))
    assert min(chances[:3]) > 0.7
    assert chances[3] < 0.1


def test_an_end_is_judged_by_the_ends_beside_it() -> None:
    value = MarkValue()
    questions, chats = Place(50, Origin.JUNCTION, 0), Place(50, Origin.JUNCTION, 0)
    for number in range(500):
        for prior in (questions, chats):
            place = Place(100, Origin.END, value.now, 0, prior)
            prior.ends_born += 1
            value.enter(place)
            value.now += 1
            if prior is chats:
                value.came_back(place)
        assert questions.ends_used == 0
        assert chats.ends_used == number + 1
    below = [Place(100, Origin.END, value.now, 0, prior) for prior in (questions, chats)]
    for place in below:
        value.classify(place)
    assert not is_worth(below[0], value, 15)
    assert is_worth(below[1], value, 15)


def test_what_the_program_asks_for_is_made_whatever_was_learned() -> None:
    value = MarkValue()
    place = Place(100, Origin.PROGRAM, 0)
    value.classify(place)
    assert is_worth(place, value, 0)


# Tails -------------------------------------------------------------------------------------------


def learned(distances: list[int], num_prompts: int) -> Tails:
    tails = Tails()
    for _ in range(num_prompts):
        tails.wanted(10_000, 0)
    for distance in distances:
        tails.left(distance, 10_000 - distance)
    return tails


def test_the_first_prompts_have_tails_at_doubling_distances_and_others_none_while_nobody_leaves_them() -> None:
    tails = Tails()
    assert tails.wanted(1000, 200) == [999, 936, 872, 744, 488]
    for _ in range(FEW_PROMPTS):
        tails.wanted(1000, 200)
    assert tails.wanted(1000, 200) == []


def test_a_tail_lies_where_nearly_all_have_left_prompts_and_loses_few_tokens() -> None:
    draw = random.Random(1)
    distances = [draw.randint(20, 60) for _ in range(2 * SURE)]
    (tail,) = learned([*distances, 5000], 3 * SURE).wanted(8000, 0)
    assert 60 <= 8000 - tail <= 75


def test_few_prompts_that_were_left_are_not_trusted_alone() -> None:
    assert learned([40], FEW_PROMPTS).wanted(8000, 0) == [7960, 7840]


def test_prompts_that_are_rarely_left_have_no_tails() -> None:
    assert learned([40], 2 * RISK).wanted(8000, 0) == []


def test_the_same_prompt_again_is_a_tail_of_one() -> None:
    assert learned([1] * SURE, SURE).wanted(9000, 100) == [8999]


def test_what_is_learned_of_documents_says_nothing_of_turns() -> None:
    tails = learned([40] * SURE, SURE)
    assert tails.wanted(9000, 8900) == []
    assert tails.wanted(9000, 0) == [8960]


def test_leaving_a_prompt_where_it_began_to_be_new_says_nothing() -> None:
    tails = learned([], 2 * SURE)
    for _ in range(SURE):
        tails.left(9_990, 10)
    assert tails.wanted(10_000, 0) == []


# The queue ---------------------------------------------------------------------------------------


def random_marks(draw: random.Random, value: MarkValue, num_marks: int) -> list[Mark]:
    """Marks of all kinds in edges below one root."""
    root = Node(None, b"", 0, b"", array("i"), 0, "")
    marks = []
    for _ in range(num_marks):
        value.now += draw.randint(0, 3)
        node = Node(root, bytes(4), 0, bytes(4 * 2048), array("i"), 0, "")
        mark = Mark(draw.randint(1, 2048), 0, 0, array("i"), 0)
        mark.node, node.marks = node, {mark.position: mark}
        mark.place = Place(mark.position, Origin(draw.randrange(4)), value.now, draw.randrange(6))
        value.enter(mark.place)
        for _ in range(draw.choice((0, 0, 1, 5))):
            value.now += draw.randint(1, 20)
            value.came_back(mark.place)
        marks.append(mark)
    return marks


@pytest.mark.parametrize("seed", range(5))
def test_the_first_is_nearly_the_lowest_of_all(seed: int) -> None:
    """Nearly: a bucket has marks that differ by a factor, and ends are ranked anew from time to time only."""
    draw, value = random.Random(seed), MarkValue()
    marks = random_marks(draw, value, 300)
    queue = MarkQueue(value)
    for mark in sorted(marks, key=lambda mark: mark.place.used_at if mark.place else 0):
        queue.push(mark)
    worst = []
    while len(queue) > 20:
        value.now += 1
        first, index = queue.first()
        left = [value.index(mark.place, mark.position) for mark in marks if mark.ticket and mark.place]
        worst.append(index / min(left))
        queue.forget(first)
    assert sorted(worst)[len(worst) // 2] < 1.5
    assert sorted(worst)[9 * len(worst) // 10] < 3


def test_a_mark_counts_for_more_when_the_one_below_it_has_gone() -> None:
    value = MarkValue()
    root = Node(None, b"", 0, b"", array("i"), 0, "")
    node = Node(root, bytes(4), 0, bytes(4 * 2048), array("i"), 0, "")
    other = Node(root, bytes(4), 0, bytes(4 * 2048), array("i"), 0, "")
    node.marks, other.marks = {}, {}
    queue = MarkQueue(value)

    def put(node: Node, position: int) -> Mark:
        mark = Mark(position, 0, 0, array("i"), 0)
        mark.node = node
        assert node.marks is not None
        node.marks[position] = mark
        mark.place = Place(position, Origin.JUNCTION, value.now)
        value.enter(mark.place)
        queue.push(mark)
        return mark

    low, high, third = put(node, 1000), put(node, 1100), put(other, 500)
    assert queue.first()[0] is high
    queue.forget(low)
    del node.marks[1000]
    assert queue.first()[0] is third


# In a cache --------------------------------------------------------------------------------------


def test_turns_but_the_last_are_given_back_once_nobody_returns_to_them() -> None:
    cache = states(4096, 40_000)
    for chat in range(120):
        history: list[int] = []
        for turn in range(8):
            prompt = history + text(1000 * chat + turn, 30)
            lease = compute(cache, prompt, text(500 + 1000 * chat + turn, 30))
            assert not turn or lease.hit_len == len(history), "each turn goes on where the one before ended"
            history = prompt + text(500 + 1000 * chat + turn, 30)
    marks = cache.stats().marks
    assert marks is not None
    assert marks.given_back > 0
    assert marks.num_marks < 120 * 3
    cache.check()


def test_ends_that_never_come_back_are_no_longer_marked_and_then_again_when_they_do() -> None:
    cache, shared = states(8192, 60_000), text(1, 400)
    for number in range(700):
        compute(cache, shared + text(2 + number, 20), text(9000 + number, 10))
    before = mark_positions(cache).count(430)
    for number in range(700, 720):
        lease = compute(cache, shared + text(2 + number, 20), text(9000 + number, 10))
        assert lease.hit_len == 400
    assert mark_positions(cache).count(430) == before < 700
    for number in range(200):  # all of a sudden, everybody asks twice
        first = shared + text(30_000 + number, 20), text(40_000 + number, 10)
        compute(cache, *first)
        compute(cache, [*first[0], *first[1], *text(50_000 + number, 20)], text(60_000 + number, 10))
    first = shared + text(99_998, 20), text(99_999, 10)
    compute(cache, *first)
    assert cache.match([*first[0], *first[1], 1]).hit_len == 430
    cache.check()


def test_a_document_is_hit_at_its_second_visit_as_others_were_left_before_their_questions() -> None:
    cache = states(4096, 60_000)
    for number in range(30):
        document = text(number, 600)
        for question in range(3):
            compute(cache, document + text(1000 + 10 * number + question, 20), [5, 6, 7])
    document = text(77, 600)
    compute(cache, document + text(5000, 20), [5, 6, 7])
    hit_len = cache.match(document + text(5001, 20)).hit_len
    assert 560 <= hit_len <= 600


def test_with_few_slots_those_go_that_nobody_returns_to() -> None:
    """A prefix that everybody has, and chats: LRU would have room for neither."""
    cache, shared = states(6, 60_000), text(1, 500)
    hits = []
    for number in range(400):
        lease = compute(cache, shared + text(number + 2, 20), text(10_000 + number, 10))
        hits.append(lease.hit_len)
        for other in range(3):
            compute(cache, text(20_000 + 10 * number + other, 60), [1])
    assert all(hit == 500 for hit in hits[50:])


def test_what_is_known_of_places_stays_bounded() -> None:
    cache = states(4, 8192)
    for number in range(1500):
        compute(cache, text(number, 40), [1, 2])
    policy = cache._store.marks.policy  # type: ignore[union-attr]
    assert len(policy._ghosts) <= 1024
    cache.check()
