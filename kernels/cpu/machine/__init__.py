"""What every kernel is made of: the language it is written in, the instruction sets, the compiler, the threads that run
it. Knows nothing of models and uses no other room.
"""
