"""Requests, sequences, scheduling, sampling and one step of a batch. No I/O, no clock of its own, no asyncio."""
