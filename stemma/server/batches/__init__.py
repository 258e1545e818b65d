"""Files, and batches of requests that are read from them and answered when there is time.

Asks the endpoints of other rooms by their paths, and knows none of them but what `openai` keeps.
"""
