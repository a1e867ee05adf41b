"""PyTorch checkpoints: tensors of a file, its pickle read without resolving a name."""
