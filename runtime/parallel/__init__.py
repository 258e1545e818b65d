"""One model on several ranks: processes that compute their parts of each step together (tensor parallelism)."""
