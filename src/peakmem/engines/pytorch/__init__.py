"""PyTorch, eager on the CPU."""

from peakmem.engines.pytorch.profile import PROFILE

__all__ = ["PROFILE"]
