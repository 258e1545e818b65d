"""Requests as they come over the wire: msgspec structs and nothing else."""
