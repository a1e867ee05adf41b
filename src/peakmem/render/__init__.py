"""Finished reports as text: terminal, tab-separated, CSV, Markdown, JSON. Nothing here computes."""
