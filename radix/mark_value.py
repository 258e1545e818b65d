"""What a mark is worth: tokens that it is expected to save for each request that it waits, learned from what came back.

    index(place) = rate x G(age x rate) x factor x tokens saved

rate     of what was used at most once: 1, its age counts in requests; else its uses in the time that it is known
G        how fast marks of its kind came back after waiting that long: the best ratio, over all horizons, of returns to
         requests waited (a Gittins index, as in reuse.py)
kind     why the mark was made, how often it was used, and for an unused end how the ends beside it fared
factor   how much more or less often unused ends so many turns deep came back than their kind predicts
saved    tokens down to the next mark below: a mark whose neighbour is near is worth little

Marconi (Pan et al., MLSys 2025) ranks states by recency and by the FLOPs that they save a byte; what is learned of
each kind stands here for recency. All marks of a cache take about the same bytes. Frees nothing, sees no tree.
"""

from stemma.radix.place import Origin, Place
from stemma.radix.reuse import NUM_BINS, Factor, age_bin, best_ratios, bin_start

TABLE_PRIOR = 32.0  # how many marks of experience the priors weigh
FACTOR_PRIOR = 4.0
MEMORY = 4096.0  # marks after which all before weigh half
REQUESTS_SCALE, INTERVALS_SCALE = 256.0, 16.0  # in the prior, half of those that come back have waited so long
UNITS = 16  # ages of what was used often count in sixteenths of its own interval
KNOWN_FOR = 64  # requests in which one more use is taken for granted, in the rate of what was used often
NUM_TURNS = 32
NUM_FARES, NUM_USES = 5, 4

# The share that is taken to come back once more: of what was used never, once, two or three times, more often.
SHARES = {
    Origin.END: (0.7, 0.05, 0.5, 0.8),  # whoever goes on from an end leaves a later one
    Origin.JUNCTION: (0.7, 0.8, 0.9, 0.95),
    Origin.TAIL: (0.2, 0.1, 0.1, 0.1),  # the first to use it makes a junction behind it
    Origin.PROGRAM: (0.9, 0.9, 0.95, 0.95),
}


class ReturnTable:
    """When marks of one kind came back, by age; G and the chance that is left follow."""

    __slots__ = ("_fresh_until", "_num_entered", "_num_returned", "_prior", "_returned", "_share", "index", "left")

    def __init__(self, share: float, scale: float) -> None:
        """The prior: a `share` comes back, half of that before age `scale`."""
        alive = [1 / (1 + bin_start(index) / scale) for index in range(NUM_BINS + 1)]
        self._prior = [TABLE_PRIOR * share * (alive[index] - alive[index + 1]) for index in range(NUM_BINS)]
        self._share = share
        self._returned = [0.0] * NUM_BINS
        self._num_entered = self._num_returned = self._fresh_until = 0.0
        self._make()

    def entered(self) -> None:
        """A mark begins to wait. Index and chances are made anew when there is a tenth more to know."""
        self._num_entered += 1
        if self._num_entered > self._fresh_until:
            if self._num_entered > MEMORY:
                self._num_entered, self._num_returned = self._num_entered / 2, self._num_returned / 2
                self._returned = [number / 2 for number in self._returned]
            self._make()
            self._fresh_until = 1.1 * self._num_entered + 2

    def returned(self, age: float) -> None:
        """One came back at that age."""
        self._returned[age_bin(int(age))] += 1
        self._num_returned += 1

    @property
    def share(self) -> float:
        """How many of those that begin to wait come back."""
        return (self._num_returned + TABLE_PRIOR * self._share) / (self._num_entered + TABLE_PRIOR)

    def _make(self) -> None:
        returned = [seen + prior for seen, prior in zip(self._returned, self._prior, strict=True)]
        waiting, coming = self._num_entered + TABLE_PRIOR, sum(returned)
        waited: list[float] = []
        self.left: list[float] = []  # by age: the chance that it comes back at all
        for index in range(NUM_BINS):
            middle = max(waiting - returned[index] / 2, 1e-9)
            waited.append((bin_start(index + 1) - bin_start(index)) * middle)
            self.left.append(min(coming / max(waiting, 1e-9), 1.0))
            waiting -= returned[index]
            coming -= returned[index]
        self.index = best_ratios(returned, waited)


class MarkValue:
    """All that was learned of marks. The clock, `now`, counts requests."""

    __slots__ = ("_factors", "_tables", "now")

    def __init__(self) -> None:
        self.now = 0
        self._tables: dict[int, ReturnTable] = {}
        self._factors = [Factor() for _ in range(NUM_TURNS + 1)]  # the last: of all that are no unused ends

    def classify(self, place: Place) -> None:
        """Say what it is counted as from now on."""
        hits = place.hits
        uses = hits if hits < 2 else 2 if hits < 4 else NUM_USES - 1
        place.rate = 1.0 if hits < 2 else UNITS * (hits + 1) / (place.used_at - place.born_at + KNOWN_FOR)
        if place.origin is Origin.END and hits == 0:
            place.kind = _fare(place.prior)
            place.factor = min(place.turn, NUM_TURNS - 1)
        else:
            place.kind = (NUM_FARES + NUM_USES) * place.origin + NUM_FARES + uses
            place.factor = NUM_TURNS
        if place.kind not in self._tables:
            scale = INTERVALS_SCALE if hits >= 2 else REQUESTS_SCALE
            self._tables[place.kind] = ReturnTable(SHARES[place.origin][uses], scale)

    def enter(self, place: Place) -> None:
        """It begins to wait, for the first time or after it was used."""
        self.classify(place)
        table, factor = self._tables[place.kind], self._factors[place.factor]
        table.entered()
        factor.predicted += table.share
        factor.keep_recent(FACTOR_PRIOR)

    def came_back(self, place: Place) -> None:
        """A request goes on there, or would have if there were a mark."""
        self._tables[place.kind].returned((self.now - place.used_at) * place.rate)
        self._factors[place.factor].seen += 1
        place.used_at = self.now
        place.hits += 1
        if place.prior is not None:
            place.prior.ends_used += 1
            place.prior = None
        self.enter(place)

    def weight(self, place: Place) -> float:
        """What its index is multiplied by, but for the tokens saved."""
        return place.rate * self._factors[place.factor].value(FACTOR_PRIOR)

    def index(self, place: Place, saved: int) -> float:
        """Tokens that a mark there saves for each request that it waits."""
        return self._tables[place.kind].index[self._age(place)] * self.weight(place) * saved

    def chance(self, place: Place) -> float:
        """Whether a mark there is used at all from now on."""
        left = self._tables[place.kind].left[self._age(place)]
        return min(left * self._factors[place.factor].value(FACTOR_PRIOR), 1.0)

    def _age(self, place: Place) -> int:
        return age_bin(int((self.now - place.used_at) * place.rate))


def _fare(prior: Place | None) -> int:
    """0: unknown; 1 to 4: how many of the ends of requests that went on there too were gone on from."""
    if prior is None or prior.ends_born < 4:
        return 0
    share = prior.ends_used / prior.ends_born
    return 1 if share < 0.02 else 2 if share < 0.1 else 3 if share < 0.4 else 4
