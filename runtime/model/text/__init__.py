"""Text to tokens and back: tokenizers, and chat templates in which messages never become special tokens.

May use `checkpoint.py`, which says what describes a tokenizer. Knows neither files nor networks.
"""
