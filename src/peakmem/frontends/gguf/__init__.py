"""GGUF files: tensors, block formats, metadata."""
