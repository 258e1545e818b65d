"""The prefix cache: physical blocks, radix tree, leases, eviction. No torch, no runtime."""
