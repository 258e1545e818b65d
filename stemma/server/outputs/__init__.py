"""Outputs: the form that a request asks for, or that its tools have, and compiling it.

May use `prompts` for the texts of messages, `wire`, and `http` for its errors.
"""
