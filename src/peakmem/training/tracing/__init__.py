"""A training step run on tensors without memory, and what it allocates written down. Needs torch; computes nothing."""
