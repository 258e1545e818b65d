"""A model on a Stemma server instead of in this process: a `Backend` over HTTP. Knows nothing of states."""
