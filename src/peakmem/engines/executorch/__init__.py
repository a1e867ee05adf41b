"""ExecuTorch: planned memory, the method's own structures, and XNNPACK's delegates."""

from peakmem.engines.executorch.profile import PROFILE, Profile

__all__ = ["PROFILE", "Profile"]
