"""Prompts: messages, tools and earlier answers to tokens.

May use `wire` for the messages and `http` for its errors.
"""
