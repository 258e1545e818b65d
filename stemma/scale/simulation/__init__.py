"""Fleets that are reckoned instead of run: real caches and real routing on recorded or made-up traffic."""
