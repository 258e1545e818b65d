"""Arrays and the loops over them, which `machine` compiles: stepping configurations, walking tokens, masks, boundaries.

Kernels neither raise nor allocate: what is missing is said in `Tables.counts`, and who holds the tables provides it
(`automaton`).
"""
