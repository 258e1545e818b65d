"""From a request of any dialect to generations of the engine: options, the chat, and the service that all work with.

May use every room below: `outputs`, `prompts`, `wire`, `http`. What an answer looks like is its dialect's.
"""
