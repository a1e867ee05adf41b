"""ONNX Runtime on its CPU provider.

`predict` is the profile; the modules beside it are its rules. Files of the engine's source that comments name were read
in older versions or, for fusions and a few kernels, are named from memory: what holds the rules is 1.31.1's behaviour.
"""

from peakmem.engines.onnxruntime.profile import DOMAIN, NAME, VERIFIED, OnnxRuntime, predict

__all__ = ["DOMAIN", "NAME", "VERIFIED", "OnnxRuntime", "predict"]
