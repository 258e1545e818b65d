"""Files of models, local or on the hub, to one form: the `Checkpoint`. Nothing is packed or computed here.

May use `families`, for what it refuses and how rotary scalings are written, and `text`, for what tokenizers
are made of.
"""
