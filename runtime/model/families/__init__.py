"""Networks: one file a family, on the operations of any back end; `register.py` lists them.

May use `config.py` and `weights.py`. Knows neither files nor text.
"""
