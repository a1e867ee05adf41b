"""PyTorch to graphs: live modules and exported programs."""
