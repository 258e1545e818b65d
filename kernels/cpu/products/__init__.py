"""Matrix products: how weights are packed, and kernels that multiply rows by them, on vectors or on the matrix unit.
May use `rows`, whose quantised rows it reads, and `machine`.
"""
