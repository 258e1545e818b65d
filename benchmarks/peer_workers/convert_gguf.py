"""A GGUF file with the same weights in another storage type. Arguments: the file, the new file, BF16, F16 or Q8_0.

Matrices are dequantised and stored again; what is float32 (the norms) stays. For Q8_0 they are rounded once more.
"""

from __future__ import annotations

import sys

import gguf

source, target, name = sys.argv[1:]
kind = gguf.GGMLQuantizationType[name]
reader = gguf.GGUFReader(source)
writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
WRITTEN_BY_ITSELF = ("general.architecture", "GGUF.version", "GGUF.tensor_count", "GGUF.kv_count")
for field in reader.fields.values():
    if field.name == "general.file_type":
        writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{name}"])
    elif field.name not in WRITTEN_BY_ITSELF:
        element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=element)
for tensor in reader.tensors:
    if tensor.tensor_type == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(tensor.name, tensor.data)
    else:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, gguf.quantize(values, kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
