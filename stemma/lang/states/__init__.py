"""States: what was said so far, as text and tokens, with its copies, branches and pins.

May use `values`, which states make, and `reports`, which tell what they did.
"""
