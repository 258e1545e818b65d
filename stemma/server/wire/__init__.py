"""Requests as they come over the wire, as far as several dialects share them: msgspec structs. Uses no other room."""
