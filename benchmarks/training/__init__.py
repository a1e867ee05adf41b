"""Training steps, predicted and measured: cells, measuring, comparing, the page."""
