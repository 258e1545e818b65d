"""One grammar's lazy pushdown automaton: nodes become states when they are reached, configurations when they are met.

May use `syntax` for the nodes and `kernels` for the tables and everything that steps them.
"""
