"""Measure engines for real, each cell in a clean process; an instrument that does not know what it should read.

Imports no estimator: neither the IR nor a front end nor an analysis. A model reaches it as a file that the engine
takes, inputs as names, shapes and dtypes.
"""
