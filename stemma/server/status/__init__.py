"""What a server tells of itself: health, models, load, metrics, and its tokenizer.

May use `generation` and all below; no dialect.
"""
