"""Ollama's API: /api/chat, /api/generate, /api/embed, and what its clients ask of models.

May use `generation` and all below; no other dialect, nor `cache` and `status`.
"""
