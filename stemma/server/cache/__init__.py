"""The cache over HTTP: its tree, why a prompt hits as far as it does, pins, files.

May use `generation` and all below; no dialect.
"""
