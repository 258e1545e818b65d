"""What people write (JSON Schema, regexes, EBNF, Lark, choices, structural tags, Python types) to nodes.

May use `syntax` alone: nothing here knows of states, tokens or kernels.
"""
