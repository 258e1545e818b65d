"""A compiler for kernels: plain Python functions over integers and arrays, translated to LLVM's language.

It uses no other room, and knows what a function may say, not what it is for.
"""
