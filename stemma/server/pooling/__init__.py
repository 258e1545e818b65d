"""What is read off texts instead of going on from them: embeddings, as OpenAI has them; scores and rankings of
documents, as vLLM and Jina have them.

May use `generation`, `http` and `wire`.
"""
