"""LiteRT without XNNPACK: its arena."""

from peakmem.engines.litert.profile import LiteRT

__all__ = ["LiteRT"]
