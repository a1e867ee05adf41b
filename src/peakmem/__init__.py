"""How much memory a neural network needs, before it runs."""
