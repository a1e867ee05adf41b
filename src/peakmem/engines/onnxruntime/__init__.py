"""ONNX Runtime on its CPU provider.

`PROFILE.predict` is the profile; the modules beside it are its rules. Files of the engine's source that comments name
are those of github.com/microsoft/onnxruntime; what decides is what 1.31.1 does.
"""

from peakmem.engines.onnxruntime.profile import NAME, PROFILE, VERIFIED, OnnxRuntime, predict

__all__ = ["NAME", "PROFILE", "VERIFIED", "OnnxRuntime", "predict"]
