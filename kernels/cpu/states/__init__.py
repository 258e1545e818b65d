"""Layers that keep a state: their slots, the short convolution, the gated delta rule, Mamba-2's scan, and gates."""
