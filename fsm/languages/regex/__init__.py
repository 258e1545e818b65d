"""Regular expressions in the dialects of ECMAScript, Python, Rust and Lark to nodes."""
