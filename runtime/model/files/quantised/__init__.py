"""Quantised folders: what each method's tensors mean, as block formats that kernels read. One file a method;
`register.py` knows them all.
"""
