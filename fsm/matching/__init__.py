"""Masks, steps and forced tokens of one grammar for one vocabulary: what a runtime asks while an output is written.

May use every room but `languages`: a grammar arrives here as nodes (`syntax`), whoever wrote it.
"""
