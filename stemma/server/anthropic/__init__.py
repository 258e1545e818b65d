"""Anthropic's API: messages, the count of their tokens, models as its clients read them.

May use `generation` and all below; no other dialect, nor `cache` and `status`.
"""
