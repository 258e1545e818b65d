"""Outputs: the form that a request asks for, compiling it, and an answer's text read as content and tool calls.

May use `prompts` for how tools are written, `wire`, and `http` for its errors.
"""
