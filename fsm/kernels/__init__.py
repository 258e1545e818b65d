"""Arrays and the loops over them, which numba compiles: stepping configurations, walking tokens, masks, boundaries.

Uses no other room. Kernels neither raise nor allocate: what is missing is said in `Tables.counts`, and who holds the
tables provides it (`automaton`).
"""
