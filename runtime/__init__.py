"""Layers 1 to 3: models, scheduling core, engine. See docs/architecture.md."""
