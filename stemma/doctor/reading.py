"""A server's metrics as numbers by name and label, of its whole life or of the time between two readings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stemma.runtime.errors import InvalidRequest, StemmaError

GROWING = ("_total", "_bucket", "_sum", "_count")
"""How names of samples end that only grow, in Prometheus' text and in OpenMetrics."""

BLOCKS, STEPS = "stemma_kv_blocks", "stemma_steps_total"
KINDS, PHASES = "stemma_kind_seconds_total", "stemma_phase_seconds_total"

Labels = frozenset[tuple[str, str]]


class NotOurs(StemmaError):
    """The metrics are not those of a Stemma server that tells everything."""


@dataclass(frozen=True, slots=True)
class Reading:
    """values: by name and labels. counters: the names of those that only grow."""

    values: Mapping[tuple[str, Labels], float]
    counters: frozenset[str]

    def value(self, name: str, **labels: str) -> float:
        """Of this name and these labels; 0 where there is none."""
        return self.values.get((name, frozenset(labels.items())), 0.0)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Of all values of one label."""
        return {
            told[label]: value
            for (each, labels), value in self.values.items()
            if each == name and label in (told := dict(labels))
        }

    def label(self, name: str, label: str) -> str:
        """What a label of this name says."""
        return next((dict(labels).get(label, "") for each, labels in self.values if each == name), "")

    def quantile(self, name: str, share: float) -> float | None:
        """Of a histogram, in the bucket's upper bound; None where nothing was counted."""
        buckets = sorted((_number(bound), count) for bound, count in self.by(f"{name}_bucket", "le").items())
        total = buckets[-1][1] if buckets else 0.0
        return next((bound for bound, count in buckets if count >= share * total), None) if total else None

    def since(self, before: Reading) -> Reading:
        """What was counted since an earlier reading. What is no counter stays as it is.

        Raises InvalidRequest if the server was started anew in between.
        """
        changed = dict(self.values)
        for (name, labels), value in self.values.items():
            if name in self.counters:
                changed[name, labels] = value - before.values.get((name, labels), 0.0)
                if changed[name, labels] < 0:
                    raise InvalidRequest("the earlier reading is another run's: its counters are larger", "before")
        return Reading(changed, self.counters)


def read(text: str) -> Reading:
    """Prometheus' text. Raises NotOurs."""
    from prometheus_client.parser import text_string_to_metric_families

    values: dict[tuple[str, Labels], float] = {}
    counters = set()
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if math.isnan(sample.value):
                    continue
                values[sample.name, frozenset(sample.labels.items())] = sample.value
                if sample.name.endswith(GROWING):
                    counters.add(sample.name)
    except ValueError as error:
        raise NotOurs(f"these are no metrics in Prometheus' text: {error}") from error
    names = {name for name, _ in values}
    if BLOCKS not in names:
        raise NotOurs(
            "these metrics do not tell what the engine does: give the /metrics of `stemma serve`, with an admin's key "
            "where there are several"
        )
    if missing := [name for name in (STEPS, KINDS, PHASES) if name not in names]:
        raise NotOurs(f"these metrics are another version's, which has no {missing[0]}: ask its own `stemma doctor`")
    return Reading(_of_one(values), frozenset(counters))


def _of_one(values: Mapping[tuple[str, Labels], float]) -> Mapping[tuple[str, Labels], float]:
    """Without the labels that whoever collected the metrics added to each of them. Raises NotOurs where these are of
    several servers."""
    added = [labels for name, labels in values if name == STEPS]
    if len(added) > 1:
        told = sorted(" ".join(f"{name}={value}" for name, value in sorted(labels)) for labels in added)
        raise NotOurs(f"these metrics are of several servers ({', '.join(told)}): give those of one")
    return {(name, labels - added[0]): value for (name, labels), value in values.items()}


def _number(bound: str) -> float:
    """A bucket's upper bound. Raises NotOurs."""
    try:
        return float(bound)
    except ValueError as error:
        raise NotOurs(f"these are no metrics in Prometheus' text: {bound!r} bounds no bucket") from error
