"""Structured generation: regex, JSON Schema, choices and grammars to token masks and jumps. No torch, no runtime."""
