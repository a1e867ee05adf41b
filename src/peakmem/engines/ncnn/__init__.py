"""How ncnn holds memory, read from its source and checked against its processes."""

from peakmem.engines.ncnn.profile import PROFILE

__all__ = ["PROFILE"]
