"""LiteRT: its arena, its objects and its XNNPACK delegate."""

from peakmem.engines.litert.profile import PROFILE, LiteRT

__all__ = ["PROFILE", "LiteRT"]
