"""Kernels on one row at a time: norms, quantisation, gates and rotations of activations; rows of an embedding; masks
and the choice of a token. May use `machine`.
"""
