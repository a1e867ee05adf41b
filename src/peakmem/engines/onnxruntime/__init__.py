"""ONNX Runtime on its CPU provider.

`predict` is the profile; the modules beside it are its rules.
"""

from peakmem.engines.onnxruntime.profile import DOMAIN, NAME, VERIFIED, OnnxRuntime, predict

__all__ = ["DOMAIN", "NAME", "VERIFIED", "OnnxRuntime", "predict"]
