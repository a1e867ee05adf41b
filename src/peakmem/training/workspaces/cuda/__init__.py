"""Rows for NVIDIA's cards: from PyTorch's source and recorded traces; none was measured by this project's sweep."""
