"""A GGUF file's weights, dequantised to bfloat16, as a Hugging Face folder. Arguments: the file, the new folder."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, folder = Path(sys.argv[1]), sys.argv[2]
read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16)
if hasattr(read.config, "quantization_config"):  # says where the weights come from, not what they are now
    del read.config.quantization_config
model = AutoModelForCausalLM.from_config(read.config, dtype=torch.bfloat16)
model.load_state_dict(read.state_dict())
model.save_pretrained(folder)
AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
