"""SGLang's API: /generate.

May use `generation` and all below; no other dialect, nor `cache` and `status`.
"""
