"""Polynomials with exact coefficients, their upper envelope, and numbers that remember how they were made.

Nothing here knows a graph: `peakmem.scaling` puts such a number into one and reads the formula off its buffers.
"""
