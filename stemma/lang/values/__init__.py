"""Values that a model is making: awaited, streamed in parts, chosen among options. Knows nothing of states."""
