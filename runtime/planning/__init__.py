"""What a model costs, from its sizes: bytes that are read and operations that are done, before anything is loaded."""

from __future__ import annotations

from stemma.runtime.planning.plan import Bound, Plan, make_plan
from stemma.runtime.planning.rates import Rates, given_rates, measure_rates
from stemma.runtime.planning.work import Work, work_of

__all__ = ["Bound", "Plan", "Rates", "Work", "given_rates", "make_plan", "measure_rates", "work_of"]
