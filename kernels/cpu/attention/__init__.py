"""Paged attention: how the KV is stored, what a step's plan is, kernels that write the KV and attend to it.
May use `rows` and `machine`.
"""
