"""Damage that knows a format, one module each: SUFFIX, seeds() and damage(data, rng)."""
