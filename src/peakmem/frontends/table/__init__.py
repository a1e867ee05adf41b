"""Layer tables as people write them, to graphs."""
