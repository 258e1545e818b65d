"""What each way of choosing does in a fleet at rest."""

from __future__ import annotations

from array import array

from stemma.scale.fleet import Index, Load, hashes_of
from stemma.scale.simulation.policies import ApproximateTree, Ours, PowerOfTwo, RoundRobin, Thresholds
from stemma.scale.simulation.trace import Request

LOADS = {name: Load(0, 0, 0.0, 8) for name in "abcd"}


def request(number: int, blocks: list[int]) -> Request:
    prompt = array("i", blocks)
    return Request(number, 0.0, prompt, array("i"), hashes_of(prompt, "", 1), 16 * len(blocks) + 1, 1, None)


def test_round_robin_gives_all_the_same():
    policy = RoundRobin(0)
    chosen = [policy.choose(request(number, [1]), LOADS, 0.0) for number in range(8)]
    assert sorted(chosen) == sorted(2 * list(LOADS))


def test_the_less_busy_of_two_never_the_busiest_of_all():
    policy = PowerOfTwo(0)
    loads = LOADS | {"a": Load(0, 50, 0.0, 8)}
    assert "a" not in {policy.choose(request(number, [1]), loads, 0.0) for number in range(40)}


def test_the_tree_follows_what_it_sent_until_that_replica_has_too_much():
    policy = ApproximateTree(0, 16, Thresholds(absolute=5))
    home = policy.choose(request(0, list(range(20))), LOADS, 0.0)
    others = [policy.choose(request(number, list(range(20))), LOADS, 0.0) for number in range(1, 6)]
    assert others == [home] * 5
    assert policy.choose(request(6, list(range(20))), LOADS, 0.0) != home


def test_the_tree_forgets_what_was_used_longest_ago():
    policy = ApproximateTree(0, 16, Thresholds(tree_tokens=320))
    policy.choose(request(0, list(range(20))), {"a": LOADS["a"]}, 0.0)
    policy.choose(request(1, list(range(50, 70))), {"a": LOADS["a"]}, 0.0)
    fresh = policy.choose(request(2, list(range(20))), LOADS, 0.0)
    assert fresh != "a"


def test_routers_that_never_talk_send_one_new_prefix_to_one_replica_and_others_elsewhere():
    index = Index()
    routers = [Ours(number, index, 16, 8) for number in range(8)]
    homes = {router.choose(request(0, list(range(20))), LOADS, 1.0) for router in routers}
    assert len(homes) == 1
    fresh = [Ours(number, index, 16, 8) for number in range(40)]
    chosen = [
        router.choose(request(n, [n * 20 + place for place in range(20)]), LOADS, 1.0) for n, router in enumerate(fresh)
    ]
    assert set(chosen) == set(LOADS)
