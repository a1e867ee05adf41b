"""MNN on the processor."""

from peakmem.engines.mnn.profile import PROFILE

__all__ = ["PROFILE"]
