"""safetensors files: tensors of one file, of shards, of a folder."""
