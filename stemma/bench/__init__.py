"""Loads a running server as its users would, and tells latencies, goodput and hits: `stemma bench`."""
