"""OpenAI's API: chat completions, completions, responses.

May use `generation` and all below; no other dialect, nor `cache` and `status`.
"""
