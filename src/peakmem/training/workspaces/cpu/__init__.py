"""Rows for the processor: torch 2.13.0 with oneDNN 3.12 and MKL, measured with AVX-512 and its bfloat16."""
