"""Nodes: what every language becomes, with sets of characters and what holds of rules. Uses no other room."""
