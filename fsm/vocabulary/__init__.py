"""The tokens of one tokenizer: a trie of their bytes, its slices, the merges of its byte-pair encoding.

May use `kernels` alone. Built once a vocabulary and kept on disk.
"""
