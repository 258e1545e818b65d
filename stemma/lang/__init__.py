"""What people write: chats and programs. Knows the engine; of HTTP, `remote` alone knows.

Rooms, each of which uses only those after it: `programs`, `chats` and `mcp`; `states`; `values`, `reports` and
`remote`; then `backend.py`, which says what all of them ask of a model, and `loops.py`.
"""
