"""Numbers by rising times: the same as a dictionary, in 16 bytes each."""

import hypothesis.strategies as st
from hypothesis import given, settings

from stemma.radix.touches import Touches


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from((1, 1, 2, 3, 40, 500)), st.floats(0, 1), st.integers(0, 3)), max_size=300),
    st.integers(0, 9),
)
def test_they_are_a_dictionary_of_which_the_oldest_goes_first(
    ways: list[tuple[int, float, int]], most_recent: int
) -> None:
    touches, kept, now = Touches(most_recent), dict[int, float](), 0
    for step, which, way in ways:
        now += step
        touches.append(now, float(step))
        kept[now] = float(step)
        time = list(kept)[int(which * (len(kept) - 1))]
        if way == 1:
            assert touches.take(time, 0.5) == (min(0.5, kept[time]), kept[time] <= 0.5)
            kept[time] = max(kept[time] - 0.5, 0.0)
        elif way == 2:
            assert touches.take(time, 600.0) == (kept[time], True)
            assert touches.take(time, 600.0) == (0.0, False)
            kept[time] = 0.0
        elif way == 3:
            assert touches.pop_oldest() == next(iter(kept.items()))
            oldest = next(iter(kept))
            kept[oldest] = 0.25 if which < 0.5 else 0.0
            if which < 0.5:
                touches.put_back(oldest, 0.25)
        kept = {time: number for time, number in kept.items() if number}
        assert len(touches) == len(kept)
        assert all(touches.get(time) == kept.get(time, 0.0) for time in range(now + 3))


def test_one_that_stays_keeps_nothing_of_what_has_gone_since() -> None:
    touches = Touches(3)
    touches.append(1, 1.0)
    for time in range(2, 20_000):
        touches.append(time, 1.0)
        if time > 10:
            assert touches.take(time - 5, 1.0) == (1.0, True)
    assert len(touches._times) + len(touches._old_times) < 400
    assert touches.pop_oldest() == (1, 1.0)
