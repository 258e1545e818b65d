"""What a server keeps for its callers: objects by tenant and id, items in paths that share their beginnings, contents.

Uses `config` at most; knows neither HTTP nor what its objects mean.
"""
