"""Tongues: how a model's template tells tools, writes calls and reasons; grammar, parser and history of one form.

May use `model`. Knows neither requests nor HTTP.
"""
