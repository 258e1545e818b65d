"""HTTP: from a request to a typed RequestContext and back, keys and admission, errors, replies and streams of events.

May use `config` and `wire`: nothing here knows what is asked for or who answers it.
"""
