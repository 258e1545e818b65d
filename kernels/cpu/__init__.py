"""The CPU back end: native code that is generated and compiled for the machine at hand (`ops.py`), and whole steps of
it that are recorded and run again (`steps.py`).

Rooms, each of which uses only those after it: `products` and `attention`, which know nothing of each other; `rows`;
`machine`.
"""
