"""Replicas of the server under Ray Serve, and a router of Ray's own kind that knows what each of them has cached.

Ray starts, watches and replaces processes; here is what they run. `graph.build` is what Serve deploys.
"""
