"""What each engine will hold, predicted from a model and settings: one profile a file, rules with their sources.

A profile reads a Graph in the engine's own format and computes; it runs nothing and imports no engine. Where the
format is code (`pytorch.source`), getting the Graph runs that code, as loading a live model does. What engines
really hold is read by `peakmem.measuring`, which knows nothing of this package.
"""
