"""ExecuTorch programs: `.pte` files, read from their own tables."""
