"""What a machine makes of a model: rates that are measured, and plans that are reckoned before anything is loaded."""

from __future__ import annotations

from stemma.runtime.planning.draft import DraftPlan
from stemma.runtime.planning.plan import Bound, Plan, make_plan
from stemma.runtime.planning.rates import Rates, given_rates, measure_rates

__all__ = ["Bound", "DraftPlan", "Plan", "Rates", "given_rates", "make_plan", "measure_rates"]
