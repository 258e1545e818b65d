"""Adapters of low rank (LoRA, Hu et al. 2021), PEFT's folders and GGUF files, merged into a model's matrices when it is
loaded.
"""
