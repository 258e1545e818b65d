"""Chat sessions, each on one state, and their files. May use `states` and what these use."""
