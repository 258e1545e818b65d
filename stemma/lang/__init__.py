"""What people write: chats and programs. Knows the engine, nothing of HTTP."""
