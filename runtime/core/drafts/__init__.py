"""Drafts: tokens that are likely to come next, from wherever that can be guessed. A step verifies them, all at once."""
