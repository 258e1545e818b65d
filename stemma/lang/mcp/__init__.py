"""The Model Context Protocol: servers whose tools a model may call, run or reached through the official SDK.

May use `values` and `loops`. Only here is the SDK known, and it is imported when servers are asked for.
"""
