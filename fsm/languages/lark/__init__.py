"""Lark grammars as `lark`'s own Earley parser reads them, terminals and what follows them included."""
