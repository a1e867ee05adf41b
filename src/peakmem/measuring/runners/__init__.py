"""What runs inside the measured process: one file an engine, each complete in itself.

A runner is executed by `child.py` in a bare interpreter; it imports nothing of this package and nothing but its engine,
so that what is measured is the engine. The measuring process imports the same file to read its description:

    NAME            what the engine is called in settings and tables
    EXTRA           the extra of the package that installs it
    DISTRIBUTIONS   the distributions whose versions are reported, the engine's own first
    READS           kinds of model it loads: onnx, ort, ncnn, tflite, openvino, torch, pte, mnn
    SETTINGS        (name, default, choices, what it moves); a flag is True or False and has no choices
    ENVIRONMENT     variables that must stand before the import, telemetry above all
    class Runner    start, load, feed, run, release
"""
