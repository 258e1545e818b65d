"""The tokens of one tokenizer, ready for masks: a trie of their bytes, masks of runs, the merges of its pair encoding.

May use `kernels` alone. Built once a vocabulary and kept on disk.
"""
